// Package crash kills the controller's process at each boundary of each step of jobs over three servers, with a real local cloud
// and the controller's own bus.
package crash

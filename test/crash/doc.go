// Package crash kills the controller's process at each boundary of each step of jobs over three servers, with a real local cloud
// and the controller's own bus; and takes a wave of real servers over, with agents, disks and targets that boot.
package crash

// Package chaos breaks everything between a source and its replica, and shows that no point is ever offered that is not
// equal to the source: kill -9 of every process, and a broker that loses, repeats, changes or forgets what it was given.
package chaos

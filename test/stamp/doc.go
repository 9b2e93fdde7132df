// Package stamp shows that a point is what the source was. Writers stamp every sector of two disks through every way
// that a program has to a disk, the product replicates them, and at each point that the replica holds its volumes are
// compared, byte by byte, with a copy of the disks that was made while they stood still.
//
// A [World] is one source with two disks, an agent, a replication server and a broker, each a process of its own, and the
// controller's end of their conversation. Package chaos breaks them.
package stamp

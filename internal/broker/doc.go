// Package broker is the embedded NATS server and its authority: who may connect, and
// what each role may publish and read. Agents and replication servers do not carry it.
//
// The control plane must not lose anything, so the server syncs every write. The data
// plane may lose anything, since the source can give a block again: its streams persist
// asynchronously.
package broker

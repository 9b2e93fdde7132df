// Package bus is the one way onto NATS: the embedded server, the identities and
// permissions of the roles, the connection, the streams and buckets as data, and
// typed requests. It knows subjects from protocol and nothing of what they mean.
//
// The control plane must not lose anything, so the embedded server syncs every
// write. The data plane may lose anything, since the source can give a block again:
// its streams persist asynchronously.
package bus

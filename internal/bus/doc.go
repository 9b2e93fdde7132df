// Package bus is a client's way onto NATS: identities, the connection, typed requests,
// the streams and buckets as data. It knows subjects from protocol and nothing of what
// they mean. It does not carry the server: that is package broker.
package bus

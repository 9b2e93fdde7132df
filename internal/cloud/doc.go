// Package cloud is the EC2 driver: our own verbs and types over the EC2 API, and the
// only place that imports the AWS SDK. It owns how things are created exactly once
// (client token where EC2 has one, look-up by our tags where it has none), how one
// waits for them, and which error means what. It keeps no state, starts no goroutines,
// and never decides what should exist; that is the controller's business.
//
// For a laptop, a test or a demo the endpoint is the local cloud; there is no second
// provider behind an interface.
package cloud

// Package protocol is the vocabulary in which the roles of rehost meet: subjects,
// frames, records, state names, orders and reports. It uses the standard library
// only, holds no connection, and makes no decision.
//
// There are two planes. The data plane is one JetStream stream for each source
// server, and carries [Frame]s. The control plane is level-triggered: an agent and
// a replication server report what is, again and again, and each reply carries an
// order with what should be. So a lost message, or a restart of either side, costs
// one period and nothing else.
package protocol

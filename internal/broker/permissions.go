package broker

import (
	"slices"

	"github.com/nats-io/jwt/v2"

	"rehost/internal/bus"
	"rehost/protocol"
)

// {{name()}} is replaced by the server with the name in the user's JWT, so one signing key
// for each role gives every user its own subjects and no others.
const self = "{{name()}}"

// grant is what one role may publish and subscribe.
type grant struct {
	role      string
	publish   []string
	subscribe []string
	deny      []string // of what publish allows
}

// grants is the whole of who may do what on the bus.
var grants = []grant{
	{
		role:      bus.RoleEnrol,
		publish:   []string{protocol.EnrolSubject},
		subscribe: []string{protocol.InboxPrefix(bus.RoleEnrol, self) + ".>"},
	},
	{
		// An agent publishes its own blocks and its own reports, and reads what is meant for it. No JetStream API.
		role:    protocol.RoleAgent,
		publish: []string{protocol.BlocksSubject(self), protocol.AgentReportSubject(self), protocol.ScanSubject(self), protocol.BarrierSubject(self), protocol.SnapshotSubject(self)},
		subscribe: []string{
			protocol.SignalSubject(self), protocol.HashesSubject(self), protocol.PokeSubject(self), protocol.InboxPrefix(protocol.RoleAgent, self) + ".>",
		},
	},
	{
		// A replication server reads streams, keeps checkpoints and purges what is durable.
		role: protocol.RoleReplicaServer,
		publish: []string{
			protocol.ReplicaReportSubject(self), protocol.SignalSubject("*"), protocol.HashesSubject("*"),
			"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>",
			"$JS.API.STREAM.PURGE.*", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>", "$KV." + protocol.BucketCheckpoints + ".>",
		},
		subscribe: []string{
			protocol.ReplicaPokeSubject(self), protocol.ScanSubject("*"), protocol.InboxPrefix(protocol.RoleReplicaServer, self) + ".>",
		},
		deny: recordsAPI(),
	},
	{
		role:      protocol.RoleOperator,
		publish:   []string{protocol.OperatorSubject("*", self)},
		subscribe: []string{protocol.InboxPrefix(protocol.RoleOperator, self) + ".>"},
	},
	{role: protocol.RoleController, publish: []string{">"}, subscribe: []string{">"}},
}

// recordsAPI is JetStream's API for the buckets, the audit log and the events. A bucket is a stream, and wildcards match whole tokens only, so
// "block streams" cannot be allowed by their prefix: all streams are, and the others are denied one by one.
func recordsAPI() []string {
	var all []string
	for _, bucket := range append(slices.Clone(protocol.Buckets), protocol.BucketLease, protocol.BucketScreenshots) {
		stream := "KV_" + bucket
		all = append(all, "$JS.API.STREAM.PURGE."+stream)
		if bucket == protocol.BucketCheckpoints {
			continue // the replication servers' own
		}
		for _, api := range []string{"STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.*", "CONSUMER.*.*"} {
			all = append(all, "$JS.API."+api+"."+stream, "$JS.API."+api+"."+stream+".>")
		}
	}
	for _, stream := range []string{protocol.AuditStream, protocol.EventStream} {
		for _, api := range []string{"STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.*", "CONSUMER.*.*"} {
			all = append(all, "$JS.API."+api+"."+stream, "$JS.API."+api+"."+stream+".>")
		}
	}
	return all
}

// template turns a grant into the permissions that a scoped signing key gives.
func (g grant) template() jwt.UserPermissionLimits {
	return jwt.UserPermissionLimits{
		Permissions: jwt.Permissions{
			Pub: jwt.Permission{Allow: g.publish, Deny: g.deny},
			Sub: jwt.Permission{Allow: g.subscribe},
		},
		Limits: jwt.Limits{
			UserLimits: jwt.UserLimits{Src: jwt.CIDRList{}},
			NatsLimits: jwt.NatsLimits{Subs: jwt.NoLimit, Data: jwt.NoLimit, Payload: jwt.NoLimit},
		},
		AllowedConnectionTypes: jwt.StringList{jwt.ConnectionTypeStandard},
	}
}

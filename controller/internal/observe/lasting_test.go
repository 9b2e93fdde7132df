package observe

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestAStateThatPassesIsNotRecorded(t *testing.T) {
	l := Lasting{For: 10 * time.Second}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	recorded := protocol.ReplicationContinuous
	for _, tt := range []struct {
		after time.Duration
		seen  protocol.Replication
		want  protocol.Replication
	}{
		{0, protocol.ReplicationBacklog, protocol.ReplicationContinuous},
		{9 * time.Second, protocol.ReplicationBacklog, protocol.ReplicationContinuous},
		{10 * time.Second, protocol.ReplicationContinuous, protocol.ReplicationContinuous},
		{11 * time.Second, protocol.ReplicationBacklog, protocol.ReplicationContinuous}, // counts anew
		{20 * time.Second, protocol.ReplicationStalled, protocol.ReplicationContinuous},
		{29 * time.Second, protocol.ReplicationStalled, protocol.ReplicationContinuous},
		{30 * time.Second, protocol.ReplicationStalled, protocol.ReplicationStalled},
		{31 * time.Second, protocol.ReplicationContinuous, protocol.ReplicationStalled},
	} {
		recorded = l.See("web-1", recorded, tt.seen, start.Add(tt.after))
		if recorded != tt.want {
			t.Errorf("after %s: got %s, want %s", tt.after, recorded, tt.want)
		}
	}
	if got := l.See("db-1", "", protocol.ReplicationBacklog, start); got != "" {
		t.Errorf("another server: got %q", got)
	}
}

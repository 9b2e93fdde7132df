package point

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Content tells an agent what the snapshot of one of its disks at one of its points holds. The snapshot is read in the cloud,
// without a volume of it; see [cloud.Client.SnapshotHashes].
func (p *Points) Content(ctx context.Context, r protocol.SnapshotRequest) (protocol.SnapshotReply, error) {
	var out protocol.SnapshotReply
	server := bus.Sender(ctx)
	unknown := &protocol.Problem{
		Code: protocol.ProblemUnknown, Server: server, Message: "point " + r.Point + " of " + server + " has no snapshot of " + r.Disk, Hint: "see the points with: rehost point list " + server + "; keep one for a comparison with: rehost point pin",
	}
	rec, err := p.store.Servers.Get(server)
	if err != nil {
		return out, unknown
	}
	pt, err := p.Get(server, r.Point)
	i := slices.IndexFunc(rec.Volumes, func(v protocol.StagingVolume) bool { return v.Disk == r.Disk })
	if err != nil || pt.State != protocol.PointComplete || i < 0 || i >= len(pt.Snapshots) {
		return out, unknown
	}
	if r.GranuleBytes <= 0 || r.Length > r.GranuleBytes*protocol.MaxScanGranules {
		return out, &protocol.Problem{Code: protocol.ProblemInvalid, Server: server, Message: "more than may be asked for at once of a snapshot"}
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.cfg.ReadWithin, fmt.Errorf("the cloud did not answer within %s", p.cfg.ReadWithin))
	defer cancel()
	out.Hashes, err = p.cloud.SnapshotHashes(limited, pt.Snapshots[i], r.Offset, r.Length, r.GranuleBytes)
	if err != nil && limited.Err() != nil {
		err = context.Cause(limited)
	}
	if cloud.NotFound(err) {
		return out, unknown
	}
	if known := (*protocol.Problem)(nil); err != nil && !errors.As(err, &known) {
		return out, &protocol.Problem{Code: protocol.ProblemCloud, Server: server, Message: err.Error(), Hint: hint.Of(err)}
	}
	return out, err
}

package step

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/staging"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// makeClones makes a volume of each of the point's snapshots: the conversion works on these, never on the replica. It needs the
// disks that only have data too: fstab names them, and a volume group may lie on any.
func makeClones(ctx context.Context, w *Work) error {
	if w.data(dataClones) == "" {
		if err := w.clone(ctx); err != nil {
			return err
		}
	}
	made := w.clones()
	for _, id := range made {
		if _, err := w.cloud.WaitVolume(ctx, id, w.progress(ctx)); err != nil {
			return err
		}
	}
	w.progress(ctx)(strings.Join(made, ", "))
	return nil
}

// clones are the volumes that were made for the conversion.
func (w *Work) clones() []string {
	return slices.DeleteFunc(w.list(dataClones), func(id string) bool { return id == "" })
}

func (w *Work) clone(ctx context.Context) error {
	_, launch, err := w.settings()
	if err != nil {
		return err
	}
	zone, err := w.zone(ctx, launch)
	if err != nil {
		return err
	}
	rec, err := w.record()
	if err != nil {
		return err
	}
	_, replication, _, _ := fleet.Settings(w.store.Applied(), w.server)
	snapshots := w.list(dataSnapshots)
	clones := make([]string, len(rec.Volumes))
	for _, i := range convertible(rec.Volumes) {
		v, err := w.cloud.CreateVolume(ctx, cloud.VolumeSpec{
			Token: staging.Token(w.job, w.server, "clone", w.data(dataTry), strconv.Itoa(i)), Zone: zone, Snapshot: snapshots[i],
			InitMiBps: replication.Volumes.InitRate,
			Tags:      named(w.tags(cloud.RoleClone), "rehost-clone-"+w.server, nil),
		})
		if err != nil {
			return err
		}
		clones[i] = v.ID
	}
	return w.set(ctx, dataClones, strings.Join(clones, ","))
}

// convertible returns which volumes a conversion gets, the boot disk's first, by their indices. An instance of EC2's Nitro
// holds 28 cards and volumes, its own among them; of a server with more disks, the last ones stay out.
func convertible(volumes []protocol.StagingVolume) []int {
	const most = 24
	order := make([]int, len(volumes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case volumes[a].Boot == volumes[b].Boot:
			return 0
		case volumes[a].Boot:
			return -1
		default:
			return 1
		}
	})
	return order[:min(most, len(order))]
}

// list is data with an entry for each of the server's disks, in their order; an entry may be empty.
func (w *Work) list(key string) []string { return strings.Split(w.data(key), ",") }

// zone returns the availability zone of the conversion: the subnet's, or else the staging volumes'.
func (w *Work) zone(ctx context.Context, launch protocol.LaunchSettings) (string, error) {
	if s := w.subnet(launch); s != "" {
		return w.cloud.ZoneOf(ctx, s)
	}
	rec, err := w.record()
	if err != nil {
		return "", err
	}
	rs, err := w.store.Staging.Get(rec.Replica)
	return rs.Zone, err
}

package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/internal/hint"
)

// maxExclude is how many data volumes one CreateSnapshots call may exclude.
const maxExclude = 40

// Snapshot is one EBS snapshot. Its content is fixed when it is created, though it may
// be pending for long.
type Snapshot struct {
	ID        string
	Volume    string // that it was taken of
	State     string // pending, completed, error
	Progress  string // such as 35%
	SizeBytes int64  // of the volume
	Tags      Tags
	Started   time.Time
}

// SnapshotVolumes takes, at one instant, a snapshot of each given data volume of an
// instance, and of none other. The tags must name exactly this set: snapshots that carry
// them already are from a call before, and are not taken again. They come back in the
// order of the volumes, pending or completed.
func (c *Client) SnapshotVolumes(ctx context.Context, instance string, volumes []string, tags Tags) ([]Snapshot, error) {
	found, err := c.snapshotOnce(ctx, volumes, tags, func(ctx context.Context, missing []string) ([]Snapshot, error) {
		return c.snapshotInstance(ctx, instance, missing, tags)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Snapshot, len(volumes))
	for i, v := range volumes {
		s, ok := found[v]
		if !ok {
			return nil, fmt.Errorf("snapshot volume %s of %s: the cloud made none of it", v, instance)
		}
		out[i] = s
	}
	return out, nil
}

func without(volumes []string, found map[string]Snapshot) []string {
	return slices.DeleteFunc(slices.Clone(volumes), func(v string) bool { _, ok := found[v]; return ok })
}

func (c *Client) snapshotsByVolume(ctx context.Context, volumes []string, tags Tags) (map[string]Snapshot, error) {
	list, err := c.Snapshots(ctx, tags)
	if err != nil {
		return nil, err
	}
	found := FirstOfEach(list)
	maps.DeleteFunc(found, func(volume string, s Snapshot) bool { return s.failed() || !slices.Contains(volumes, volume) })
	return found, nil
}

// FirstOfEach returns the oldest snapshot of each volume; one that ended in an error only when there is no
// other. When a call whose answer was lost is done late, there is a second one, which may hold what was
// written later: only the first is what was asked for.
func FirstOfEach(list []Snapshot) map[string]Snapshot {
	found := map[string]Snapshot{}
	for _, s := range list {
		if first, ok := found[s.Volume]; !ok || s.before(first) {
			found[s.Volume] = s
		}
	}
	return found
}

func (s Snapshot) failed() bool { return s.State == string(types.SnapshotStateError) }

func (s Snapshot) before(other Snapshot) bool {
	if s.failed() != other.failed() {
		return other.failed()
	}
	return cmp.Or(s.Started.Compare(other.Started), strings.Compare(s.ID, other.ID)) < 0
}

func (c *Client) snapshotInstance(ctx context.Context, instance string, volumes []string, tags Tags) ([]Snapshot, error) {
	inst, err := c.Instance(ctx, instance)
	if err != nil {
		return nil, err
	}
	attached, err := c.volumesOf(ctx, instance)
	if err != nil {
		return nil, err
	}
	var exclude []string
	present := 0
	for _, v := range attached {
		switch {
		case slices.Contains(volumes, v.ID):
			present++
		case v.ID != inst.RootVolume:
			exclude = append(exclude, v.ID)
		}
	}
	if present != len(volumes) {
		return nil, hint.New(fmt.Sprintf("snapshot %d volumes of instance %s: only %d of them are attached to it", len(volumes), instance, present),
			"look at the instance's volumes in the cloud; the replica must not be moved by hand")
	}
	if len(exclude) > maxExclude {
		return nil, hint.New(fmt.Sprintf("instance %s has %d other volumes; the cloud can exclude %d", instance, len(exclude), maxExclude),
			"lower `volumes_per_server` in the replication block")
	}
	out, err := c.ec2.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{
		InstanceSpecification: &types.InstanceSpecification{
			InstanceId: aws.String(instance), ExcludeBootVolume: aws.Bool(true), ExcludeDataVolumeIds: exclude,
		},
		Description:       aws.String("rehost point"),
		TagSpecifications: c.own(tags).specification(types.ResourceTypeSnapshot),
	}, c.onRefusal)
	if err != nil {
		return nil, fail(err, "snapshot %d volumes of instance %s", len(volumes), instance)
	}
	var list []Snapshot
	for _, s := range out.Snapshots {
		list = append(list, Snapshot{
			ID: aws.ToString(s.SnapshotId), Volume: aws.ToString(s.VolumeId), State: string(s.State), Progress: aws.ToString(s.Progress),
			SizeBytes: int64(aws.ToInt32(s.VolumeSize)) * gib, Tags: fromTags(s.Tags), Started: timeOf(s.StartTime),
		})
	}
	return list, nil
}

// SnapshotVolume takes a snapshot of one volume, or returns the one of it that carries the tags.
func (c *Client) SnapshotVolume(ctx context.Context, volume string, tags Tags) (Snapshot, error) {
	found, err := c.snapshotOnce(ctx, []string{volume}, tags, func(ctx context.Context, _ []string) ([]Snapshot, error) {
		out, err := c.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
			VolumeId: aws.String(volume), TagSpecifications: c.own(tags).specification(types.ResourceTypeSnapshot),
		}, c.onRefusal)
		if err != nil {
			return nil, fail(err, "snapshot volume %s", volume)
		}
		return []Snapshot{{
			ID: aws.ToString(out.SnapshotId), Volume: aws.ToString(out.VolumeId), State: string(out.State), Progress: aws.ToString(out.Progress),
			SizeBytes: int64(aws.ToInt32(out.VolumeSize)) * gib, Tags: fromTags(out.Tags), Started: timeOf(out.StartTime),
		}}, nil
	})
	return found[volume], err
}

// Snapshots lists our own snapshots that carry all of the tags.
func (c *Client) Snapshots(ctx context.Context, tags Tags) ([]Snapshot, error) {
	list, err := c.snapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: c.own(tags).filters()})
	return list, fail(err, "list snapshots")
}

func (c *Client) snapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput) ([]Snapshot, error) {
	var out []Snapshot
	pages := ec2.NewDescribeSnapshotsPaginator(c.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Snapshots {
			out = append(out, Snapshot{
				ID: aws.ToString(s.SnapshotId), Volume: aws.ToString(s.VolumeId), State: string(s.State), Progress: aws.ToString(s.Progress),
				SizeBytes: int64(aws.ToInt32(s.VolumeSize)) * gib, Tags: fromTags(s.Tags), Started: timeOf(s.StartTime),
			})
		}
	}
	return out, nil
}

// WaitSnapshots waits until all are completed. One that ends in an error ends the wait.
func (c *Client) WaitSnapshots(ctx context.Context, ids []string, progress Progress) error {
	return c.wait(ctx, "snapshots", progress, func(ctx context.Context) (bool, string, error) {
		list, err := c.snapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
		if err != nil {
			return false, "", fail(err, "describe snapshots %v", ids)
		}
		done, detail := 0, ""
		for _, s := range list {
			switch s.State {
			case string(types.SnapshotStateCompleted):
				done++
			case string(types.SnapshotStateError):
				return false, "", fmt.Errorf("snapshot %s of volume %s ended in an error", s.ID, s.Volume)
			default:
				detail = fmt.Sprintf("snapshot %s %s %s", s.ID, s.State, s.Progress)
			}
		}
		return done == len(ids), detail, nil
	})
}

// DeleteSnapshot deletes a snapshot; one that is gone is no error. The image that used it may
// have been deregistered just now, which EC2 notices late.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	started := time.Now()
	return c.wait(ctx, "the deletion of snapshot "+id, nil, func(ctx context.Context) (bool, string, error) {
		_, err := c.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(id)})
		if code(err) == "InvalidSnapshot.InUse" && time.Since(started) < settle {
			return false, "in use", nil
		}
		if err = fail(err, "delete snapshot %s", id); NotFound(err) {
			return true, "", nil
		}
		return err == nil, "", err
	})
}

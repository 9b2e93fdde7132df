package cloud

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

const (
	// lateLooks is how many looks a thing of a lost answer is given to show up before it is made again.
	lateLooks = 5
	// lookTime is how long these looks may take together when EC2 throttles them.
	lookTime = 30 * time.Second
	// createAttempts bounds how often one call may lose its answer.
	createAttempts = 5
)

// onRefusal is the option of calls that make something new each time they are done: the SDK
// repeats them only when EC2 refused them. See [Client.snapshotOnce] for lost answers.
func (c *Client) onRefusal(o *ec2.Options) { o.Retryer = refusals{c.pace} }

// snapshotOnce makes the snapshots of volumes that do not carry the tags yet, and returns all by volume.
// EC2 has no client token for snapshots, so a call whose answer was lost is not repeated blindly:
// what it made is looked for by the tags, for as long as EC2 may show it late.
func (c *Client) snapshotOnce(
	ctx context.Context, volumes []string, tags Tags, create func(ctx context.Context, missing []string) ([]Snapshot, error),
) (map[string]Snapshot, error) {
	if len(tags) == 0 {
		return nil, errors.New("snapshot volumes: there are no tags to find the snapshots by")
	}
	found, err := c.snapshotsByVolume(ctx, volumes, tags)
	for attempt := 1; err == nil && len(without(volumes, found)) > 0; attempt++ {
		var created []Snapshot
		created, err = create(ctx, without(volumes, found))
		for _, s := range created {
			found[s.Volume] = s
		}
		if err == nil {
			return found, nil
		}
		if !unanswered(err) || attempt == createAttempts {
			return nil, err
		}
		c.logger.Warn("the cloud's answer was lost; looking for what it made", "error", err)
		found, err = c.lookForSnapshots(ctx, volumes, tags)
	}
	return found, err
}

// lookForSnapshots looks until all snapshots are there, or enough times.
func (c *Client) lookForSnapshots(ctx context.Context, volumes []string, tags Tags) (found map[string]Snapshot, err error) {
	limited, cancel := context.WithTimeout(ctx, lateLooks*c.poll+lookTime)
	defer cancel()
	looks := 0
	err = c.wait(limited, "snapshots", nil, func(ctx context.Context) (bool, string, error) {
		list, err := c.snapshotsByVolume(ctx, volumes, tags)
		if err != nil {
			return false, "", err
		}
		found = list
		looks++
		return len(without(volumes, found)) == 0 || looks >= lateLooks, "not visible yet", nil
	})
	return found, err
}

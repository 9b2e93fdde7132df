package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// DefaultReplication returns a replication block's defaults: small staging as MGN has it.
func DefaultReplication() protocol.ReplicationSettings {
	return protocol.ReplicationSettings{
		InstanceType: "t3.small",
		Image:        "rehost-replicaserver",
		VolumeType:   "gp3",
		// MGN's ratio; an instance of this size takes up to 27 volumes beside its own.
		VolumesPerServer: 15,
		// Reports come every second, and an instance that reboots is back within a minute or two.
		ReplaceAfter: 3 * time.Minute,
		Window:       128 << 20,
		// Eight windows: a broker's disk is not filled by one server, and a replication server may be away for a while.
		StreamBytes:  1 << 30,
		FreezeBudget: 250 * time.Millisecond,
		PointsKeep:   1,
		PointsRetain: []protocol.RetentionTier{
			{Every: 10 * time.Minute, For: time.Hour},
			{Every: time.Hour, For: day},
			{Every: day, For: 7 * day},
		},
		// With the pauses between them, half a minute of a busy source.
		FreezeAttempts: 5,
	}
}

var volumeTypes = []string{"gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"}

type replicationBlock struct {
	Name             string         `hcl:"name,label"`
	NameAt           hcl.Range      `hcl:"name,label_range"`
	At               hcl.Range      `hcl:",def_range"`
	InstanceType     *hcl.Attribute `hcl:"instance_type,optional"`
	Image            *hcl.Attribute `hcl:"image,optional"`
	Subnet           *hcl.Attribute `hcl:"subnet,optional"`
	VolumeType       *hcl.Attribute `hcl:"volume_type,optional"`
	VolumesPerServer *hcl.Attribute `hcl:"volumes_per_server,optional"`
	Dedicated        *hcl.Attribute `hcl:"dedicated,optional"`
	ReplaceAfter     *hcl.Attribute `hcl:"replace_after,optional"`
	Window           *hcl.Attribute `hcl:"window,optional"`
	StreamSize       *hcl.Attribute `hcl:"stream_size,optional"`
	FreezeBudget     *hcl.Attribute `hcl:"freeze_budget,optional"`
	Tags             *hcl.Attribute `hcl:"tags,optional"`
	FreezeAttempts   *hcl.Attribute `hcl:"freeze_attempts,optional"`
	Concurrency      *hcl.Attribute `hcl:"concurrency,optional"`

	Points    *pointsBlock    `hcl:"points,block"`
	Bandwidth *bandwidthBlock `hcl:"bandwidth,block"`
	Volumes   *volumesBlock   `hcl:"volumes,block"`
}

// pointsBlock is the schedule of points.
type pointsBlock struct {
	At     hcl.Range      `hcl:",def_range"`
	Every  *hcl.Attribute `hcl:"every,optional"`
	Keep   *hcl.Attribute `hcl:"keep,optional"`
	Retain *hcl.Attribute `hcl:"retain,optional"`
}

// What a schedule of points may be: each point costs a freeze, and a snapshot of each volume.
const (
	minEvery = time.Minute
	maxEvery = 7 * 24 * time.Hour
	maxKeep  = 1000
)

// What replace_after may be: a replication server reports every second, and one that restarts is to be let do so.
const (
	minReplace = 20 * time.Second
	maxReplace = 24 * time.Hour
)

func (b *pointsBlock) read(r *reader, s *protocol.ReplicationSettings) {
	if b == nil {
		return
	}
	r.duration(b.Every, &s.PointsEvery, 0, maxEvery)
	if s.PointsEvery != 0 && s.PointsEvery < minEvery {
		r.fail(b.Every.Expr.Range(), "Duration out of range", "every is %s to %s, or \"0s\" for points on request only. Write for example %q.",
			FormatDuration(minEvery), FormatDuration(maxEvery), "10m")
	}
	r.integer(b.Keep, &s.PointsKeep, 1, maxKeep)
	r.retention(b.Retain, &s.PointsRetain)
}

func (b replicationBlock) read(r *reader) protocol.ReplicationSettings {
	s := DefaultReplication()
	s.Name = b.Name
	r.text(b.InstanceType, &s.InstanceType)
	r.text(b.Image, &s.Image)
	r.text(b.Subnet, &s.Subnet)
	r.oneOf(b.VolumeType, &s.VolumeType, append([]string{protocol.VolumeTypeAuto}, volumeTypes...)...)
	r.integer(b.VolumesPerServer, &s.VolumesPerServer, 1, 27)
	r.flag(b.Dedicated, &s.Dedicated)
	if r.duration(b.ReplaceAfter, &s.ReplaceAfter, 0, maxReplace); s.ReplaceAfter != 0 && s.ReplaceAfter < minReplace {
		r.fail(b.ReplaceAfter.Expr.Range(), "Duration out of range", "replace_after is %s to %s, or \"0s\" for never. Write for example %q.",
			FormatDuration(minReplace), FormatDuration(maxReplace), "3m")
	}
	r.size(b.Window, &s.Window, minWindow, maxWindow)
	r.size(b.StreamSize, &s.StreamBytes, 16<<20, 1<<40)
	r.duration(b.FreezeBudget, &s.FreezeBudget, minFreeze, maxFreeze)
	r.tags(b.Tags, &s.Tags)
	r.integer(b.FreezeAttempts, &s.FreezeAttempts, 1, 20)
	r.integer(b.Concurrency, &s.Concurrency, 0, maxConcurrency)
	b.Points.read(r, &s)
	b.Bandwidth.read(r, &s.Bandwidth)
	b.Volumes.read(r, s.VolumeType, &s.Volumes)
	if s.StreamBytes < s.Window {
		at := b.At
		if b.StreamSize != nil {
			at = b.StreamSize.Expr.Range()
		} else if b.Window != nil {
			at = b.Window.Expr.Range()
		}
		r.fail(at, "Stream smaller than the window", "A stream of %s cannot hold a window of %s. Write stream_size = %q or more.",
			FormatSize(s.StreamBytes), FormatSize(s.Window), FormatSize(s.Window))
	}
	return s
}

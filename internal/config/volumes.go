package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// What EC2 takes: the widest bounds of its volume types, and of the initialization rate.
const (
	minIOPS, maxIOPS             = 100, 256_000
	minThroughput, maxThroughput = 125, 2000
	minInitRate, maxInitRate     = 100, 300
)

// volumesBlock is how the volumes of a replication block are made.
type volumesBlock struct {
	At         hcl.Range      `hcl:",def_range"`
	KMSKey     *hcl.Attribute `hcl:"kms_key,optional"`
	IOPS       *hcl.Attribute `hcl:"iops,optional"`
	Throughput *hcl.Attribute `hcl:"throughput_mibs,optional"`
	InitRate   *hcl.Attribute `hcl:"initialization_rate_mibs,optional"`
}

func (b *volumesBlock) read(r *reader, volumeType string, s *protocol.VolumeSettings) {
	if b == nil {
		return
	}
	r.text(b.KMSKey, &s.KMSKey)
	r.integer(b.IOPS, &s.IOPS, minIOPS, maxIOPS)
	r.integer(b.Throughput, &s.Throughput, minThroughput, maxThroughput)
	r.integer(b.InitRate, &s.InitRate, minInitRate, maxInitRate)
	for _, only := range []struct {
		attr  *hcl.Attribute
		types []string
		say   string
	}{
		{b.IOPS, []string{"gp3", "io1", "io2"}, "gp3, io1 or io2"},
		{b.Throughput, []string{"gp3"}, "gp3"},
	} {
		if only.attr != nil && !slices.Contains(only.types, volumeType) {
			r.fail(only.attr.NameRange, "Attribute without effect", "Volumes of type %s have no %s to choose. Remove it, or let volume_type be %s.",
				volumeType, only.attr.Name, only.say)
		}
	}
}

package cloud

import (
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Tag keys. Everything that rehost creates carries the ones that apply, so that it can
// be found again after a crash, and torn down by them.
const (
	TagRole          = "rehost:role"
	TagServer        = "rehost:server"
	TagGeneration    = "rehost:generation"
	TagPoint         = "rehost:point"
	TagJob           = "rehost:job"
	TagDisk          = "rehost:disk"
	TagReplicaServer = "rehost:replicaserver"
	TagFleet         = "rehost:fleet" // whose it is: several fleets may share an account
	TagName          = "Name"
)

// Values of [TagRole].
const (
	RoleStagingVolume     = "staging-volume"
	RoleReplicaServer     = "replicaserver"
	RoleConversion        = "conversion"
	RoleClone             = "clone"
	RoleTarget            = "target"
	RolePointSnapshot     = "point-snapshot"
	RoleConvertedSnapshot = "converted-snapshot"
	RoleImage             = "image"
)

// Tags of one thing, or what one looks for: then all of them must match.
type Tags map[string]string

// With returns a copy with more tags; the later ones win.
func (t Tags) With(more Tags) Tags {
	out := maps.Clone(t)
	if out == nil {
		out = Tags{}
	}
	maps.Copy(out, more)
	return out
}

func (t Tags) filters() []types.Filter {
	out := make([]types.Filter, 0, len(t))
	for _, k := range slices.Sorted(maps.Keys(t)) {
		out = append(out, filter("tag:"+k, t[k]))
	}
	return out
}

func (t Tags) list() []types.Tag {
	out := make([]types.Tag, 0, len(t))
	for _, k := range slices.Sorted(maps.Keys(t)) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(t[k])})
	}
	return out
}

// own adds whose the tags are: nothing of another fleet in the account is found, and nothing is made that another one finds.
func (c *Client) own(t Tags) Tags {
	if c.fleet == "" {
		return t
	}
	return t.With(Tags{TagFleet: c.fleet})
}

// specification is the one way in which anything is tagged: at its creation.
func (t Tags) specification(kinds ...types.ResourceType) []types.TagSpecification {
	if len(t) == 0 {
		return nil
	}
	out := make([]types.TagSpecification, 0, len(kinds))
	for _, kind := range kinds {
		out = append(out, types.TagSpecification{ResourceType: kind, Tags: t.list()})
	}
	return out
}

func fromTags(list []types.Tag) Tags {
	out := Tags{}
	for _, t := range list {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

// number leaves out what is not given.
func number(n int) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(int32(n))
}

func timeOf(t *time.Time) time.Time { return aws.ToTime(t) }

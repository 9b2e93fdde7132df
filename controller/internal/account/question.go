package account

import (
	"cmp"
	"context"
	"fmt"

	"rehost/controller/internal/size"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/step"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// question is one thing to ask of the cloud.
type question struct {
	purpose string // what it is needed for, such as "targets of launch web"
	about   any    // all that the answer depends on
	ask     func(ctx context.Context, c Cloud) []cloud.Trial
}

func (q question) key() string { return fmt.Sprintf("%T %+v", q.about, q.about) }

// Types of what a question is about: the calls, with all that they depend on.
type (
	instance struct{ spec cloud.InstanceSpec }
	volume   struct {
		spec          cloud.VolumeSpec
		subnet, image string
	}
	image struct {
		spec cloud.ImageSpec
		from string
	}
	own struct{ image string }
	key struct {
		name   string
		worked bool // a volume has been made with it
	}
)

// one makes a question of one call.
func one(action, purpose string, about any, ask func(ctx context.Context, c Cloud) error) question {
	return question{purpose, about, func(ctx context.Context, c Cloud) []cloud.Trial {
		return []cloud.Trial{{Action: action, Err: ask(ctx, c)}}
	}}
}

func (i instance) question(purpose string) question {
	return one("ec2:RunInstances", purpose, i, func(ctx context.Context, c Cloud) error { return c.TryInstance(ctx, i.spec) })
}

func (v volume) question(purpose string) question {
	return one("ec2:CreateVolume", purpose, v, func(ctx context.Context, c Cloud) error { return c.TryVolume(ctx, v.spec, v.subnet, v.image) })
}

func (i image) question(purpose string) question {
	return one("ec2:RegisterImage", purpose, i, func(ctx context.Context, c Cloud) error { return c.TryImage(ctx, i.spec, i.from) })
}

func (k key) question(purpose string) question {
	return question{purpose, k, func(ctx context.Context, c Cloud) []cloud.Trial {
		if err := c.Key(ctx, k.name); err != nil {
			return []cloud.Trial{{Action: "kms:DescribeKey", Err: err}}
		}
		if k.worked {
			return nil
		}
		return []cloud.Trial{{Action: "kms:CreateGrant", Err: fmt.Errorf("%w: KMS says to EC2 only what the own policy of %s allows", cloud.ErrUntried, k.name)}}
	}}
}

func (o own) question() question {
	return question{"what is there", o, func(ctx context.Context, c Cloud) []cloud.Trial { return c.TryOwn(ctx, o.image) }}
}

// group asks for a security group that the driver is to make.
func group(purpose, subnet, of string) question {
	spec := cloud.GroupSpec{Name: "rehost-preflight", Description: "rehost", Subnet: subnet, Tags: role(of)}
	return one("ec2:CreateSecurityGroup", purpose, spec, func(ctx context.Context, c Cloud) error { return c.TryGroup(ctx, spec) })
}

// role are the tags that the policy asks for. The other ones are in no policy.
func role(name string) cloud.Tags { return cloud.Tags{cloud.TagRole: name} }

// questions are all that a configuration gives reason to ask, each once. worked has the replication blocks that have made volumes.
func questions(f protocol.Fleet, worked map[string]bool) []question {
	var all []question
	for _, r := range f.Replications {
		all = append(all, staged(r, worked[r.Name])...)
	}
	converter := step.ConversionImage
	for i, l := range f.Launches {
		if of := cmp.Or(l.ConversionImage, step.ConversionImage); i == 0 {
			converter = of
		}
		all = append(all, launched(l)...)
	}
	if len(all) > 0 {
		all = append(all, own{converter}.question())
	}
	var once []question
	seen := map[string]bool{}
	for _, q := range all {
		if !seen[q.key()] {
			once = append(once, q)
		}
		seen[q.key()] = true
	}
	return once
}

// staged are the questions of a replication block.
func staged(r protocol.ReplicationSettings, worked bool) []question {
	where := "replication " + r.Name
	kind := r.VolumeType
	if kind == protocol.VolumeTypeAuto {
		kind = size.Volume(0, 0)
	}
	all := []question{
		group("security groups of "+where, r.Subnet, cloud.RoleReplicaServer),
		instance{cloud.InstanceSpec{
			Image: cmp.Or(r.Image, staging.DefaultImage), Type: cmp.Or(r.InstanceType, staging.DefaultType), Subnet: r.Subnet, Own: true, Tags: role(cloud.RoleReplicaServer),
		}}.question("replication servers of " + where),
		volume{cloud.VolumeSpec{
			SizeBytes: leastVolume, Type: kind, KMSKey: r.Volumes.KMSKey, Tags: role(cloud.RoleStagingVolume),
		}, r.Subnet, ""}.question("staging volumes of " + where),
	}
	if r.Volumes.KMSKey != "" {
		all = append(all, key{r.Volumes.KMSKey, worked}.question("volumes of "+where))
	}
	return all
}

// leastVolume is a size that all types of volume may have.
const leastVolume = 125 << 30

// launched are the questions of a launch block: of conversions, and of targets, which the conversion's image stands for.
func launched(l protocol.LaunchSettings) []question {
	where := "launch " + l.Name
	converter := cmp.Or(l.ConversionImage, step.ConversionImage)
	kind := cmp.Or(l.InstanceType, step.DefaultType)
	if kind == protocol.InstanceTypeAuto {
		kind = cmp.Or(l.ConversionType, step.ConversionType)
	}
	var all []question
	for i, subnet := range []string{l.Subnet, cmp.Or(l.TestSubnet, l.Subnet)} {
		groups := l.SecurityGroups
		if i > 0 && len(l.TestSecurityGroups) > 0 {
			groups = l.TestSecurityGroups
		}
		if len(groups) == 0 || len(l.IngressPorts) > 0 {
			all = append(all, group("security groups of "+where, subnet, cloud.RoleTarget))
		}
		all = append(all,
			group("security groups of "+where, subnet, cloud.RoleConversion),
			instance{cloud.InstanceSpec{
				Image: converter, Type: cmp.Or(l.ConversionType, step.ConversionType), Subnet: subnet, Own: true, Tags: role(cloud.RoleConversion),
			}}.question("conversions of "+where),
			instance{cloud.InstanceSpec{
				Image: converter, Type: kind, Subnet: subnet, SecurityGroups: groups, Tags: role(cloud.RoleTarget),
				Options: cloud.LaunchOptions{Profile: l.Profile, Tenancy: l.Tenancy, HTTPTokens: l.HTTPTokens, HopLimit: l.HopLimit},
			}}.question("targets of "+where),
			volume{cloud.VolumeSpec{SizeBytes: leastVolume, Tags: role(cloud.RoleClone)}, subnet, converter}.question("clones of "+where),
		)
	}
	return append(all, image{cloud.ImageSpec{Name: "rehost-preflight", Tags: role(cloud.RoleImage)}, converter}.question("images of "+where))
}

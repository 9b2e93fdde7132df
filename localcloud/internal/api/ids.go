package api

import (
	"regexp"
	"slices"
	"strings"

	"rehost/localcloud/internal/fault"
)

// idForm is what an id consists of after its prefix: 17 hex digits, in old accounts 8.
var idForm = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{17})$`)

// idKinds are the parameters that hold ids, by their last name.
var idKinds = map[string]struct{ prefix, code string }{
	"VolumeId":            {"vol-", "InvalidVolumeID"},
	"ExcludeDataVolumeId": {"vol-", "InvalidVolumeID"},
	"SnapshotId":          {"snap-", "InvalidSnapshotID"},
	"InstanceId":          {"i-", "InvalidInstanceID"},
	"ImageId":             {"ami-", "InvalidAMIID"},
	"GroupId":             {"sg-", "InvalidGroupId"},
	"SecurityGroupId":     {"sg-", "InvalidGroupId"},
	"SubnetId":            {"subnet-", "InvalidSubnetID"},
	"VpcId":               {"vpc-", "InvalidVpcID"},
	"LaunchTemplateId":    {"lt-", "InvalidLaunchTemplateId"},
}

// checkIDs refuses ids that no thing can have, as EC2 does before it looks for the thing.
func (p params) checkIDs() error {
	var names []string
	for name := range p.values {
		names = append(names, name)
	}
	slices.Sort(names) // always the same of several errors
	for _, name := range names {
		parts := strings.Split(name, ".")
		last := parts[len(parts)-1]
		if len(parts) > 1 && strings.Trim(last, "0123456789") == "" {
			last = parts[len(parts)-2]
		}
		kind, ok := idKinds[last]
		value := p.values.Get(name)
		if !ok || value == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(value, kind.prefix); !ok || !idForm.MatchString(rest) {
			return fault.New(kind.code+".Malformed", "Invalid id: %q (expecting %q followed by 8 or 17 hexadecimal digits)", value, kind.prefix+"...")
		}
	}
	return nil
}

package step

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"rehost/controller/internal/size"
	"rehost/controller/internal/staging"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// DefaultType is the instance type of targets, where the launch block does not say.
const DefaultType = "t3.medium"

const (
	privateIPAuto      = "auto"
	privateIPCopy      = "copy"
	dispositionStopped = "stopped"
)

// target is the instance that this job launches, by the launch block and by what is known of the source; detail is for people.
func (w *Work) target(l protocol.LaunchSettings) (spec cloud.InstanceSpec, detail string, err error) {
	rec, err := w.record()
	if err != nil {
		return spec, "", err
	}
	report, _, _ := w.reports.Agent(w.server)
	kind, detail, err := typeOf(l, report.Host)
	if err != nil {
		return spec, "", &final{err}
	}
	options := cloud.LaunchOptions{
		Profile: l.Profile, Tenancy: l.Tenancy, HTTPTokens: l.HTTPTokens, HopLimit: l.HopLimit, Volumes: volumeOptions(l, rec.Volumes),
	}
	if l.PrivateIP == privateIPCopy {
		if options.PrivateIP = report.Host.Address; options.PrivateIP == "" {
			return spec, "", &final{&protocol.Problem{
				Code: protocol.ProblemLaunch, Message: "the address of " + w.server + " is to be copied, and its agent has not told it",
				Hint: "look at the source's default route, or set `private_ip = \"auto\"` in the launch block",
			}}
		}
	}
	return cloud.InstanceSpec{
		Token: staging.Token(w.job, w.server, "launch", strconv.Itoa(w.attempt)), Image: w.data(protocol.JobDataImage), Type: kind, Subnet: w.subnet(l),
		UserData: []byte(l.UserData), Tags: named(w.tags(cloud.RoleTarget), w.server, l.Tags), Options: options,
	}, detail, nil
}

// typeOf returns the instance type of a launch.
func typeOf(l protocol.LaunchSettings, host protocol.Host) (kind, detail string, err error) {
	if l.InstanceType != protocol.InstanceTypeAuto {
		kind = or(l.InstanceType, DefaultType)
		return kind, kind, nil
	}
	if kind, err = size.Choose(host.Cores, host.MemoryBytes); err != nil {
		return "", "", err
	}
	return kind, fmt.Sprintf("%s for %d cores and %s", kind, host.Cores, size.Memory(host.MemoryBytes)), nil
}

// volumeOptions are the wishes for the image's volumes: the boot disk's first, then those of the others in their order.
func volumeOptions(l protocol.LaunchSettings, volumes []protocol.StagingVolume) []cloud.VolumeOptions {
	wish := func(disk string) cloud.VolumeOptions {
		for _, d := range l.Disks {
			if d.Name == disk {
				return cloud.VolumeOptions{Type: d.VolumeType, IOPS: d.IOPS, MiBps: d.Throughput}
			}
		}
		return cloud.VolumeOptions{Type: l.VolumeType}
	}
	out := make([]cloud.VolumeOptions, 1, len(volumes)+1)
	for _, v := range volumes {
		if v.Boot {
			out[0] = wish(v.Disk)
		} else {
			out = append(out, wish(v.Disk))
		}
	}
	return out
}

// interfaces are the network interfaces beside the first one. A fixed address is one of the cutover's subnet.
func (w *Work) interfaces(l protocol.LaunchSettings, groups []string) []cloud.NetworkInterface {
	test := w.kind == protocol.JobTest
	var out []cloud.NetworkInterface
	for _, i := range l.Interfaces {
		n := cloud.NetworkInterface{Subnet: or(i.Subnet, w.subnet(l)), SecurityGroups: groups}
		if test {
			n.Subnet = or(i.TestSubnet, n.Subnet)
		}
		if len(i.SecurityGroups) > 0 {
			n.SecurityGroups = i.SecurityGroups
		}
		if test && len(i.TestSecurityGroups) > 0 {
			n.SecurityGroups = i.TestSecurityGroups
		}
		if i.PrivateIP != privateIPAuto && n.Subnet == or(i.Subnet, l.Subnet) {
			n.PrivateIP = i.PrivateIP
		}
		out = append(out, n)
	}
	return out
}

// groups are the security groups of the target: the configured ones, and our own for the ports that are to be open, or when
// there is no other.
func (w *Work) groups(ctx context.Context, l protocol.LaunchSettings) ([]string, error) {
	groups := l.SecurityGroups
	if w.kind == protocol.JobTest && len(l.TestSecurityGroups) > 0 {
		groups = l.TestSecurityGroups
	}
	if len(groups) > 0 && len(l.IngressPorts) == 0 {
		return groups, nil
	}
	own, err := w.cloud.EnsureSecurityGroup(ctx, cloud.GroupSpec{
		Name: "rehost-launch-" + l.Name, Description: "rehost targets of launch block " + l.Name, Subnet: w.subnet(l), Ports: l.IngressPorts,
		Tags: cloud.Tags{cloud.TagRole: cloud.RoleTarget, cloud.TagName: "rehost-launch-" + l.Name},
	})
	return append(slices.Clone(groups), own), err
}

package config

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

const (
	maxPort     = 65535
	maxUserData = 16 << 10 // EC2's limit
)

// profile is the name or the ARN of an instance profile, as the API reference of IAM has them.
var profile = regexp.MustCompile(`^(arn:[\w-]+:iam::\d{12}:instance-profile/([!-~]+/)?)?[\w+=,.@-]{1,128}$`)

// DefaultLaunch returns a launch block's defaults: boot as the source does, take an address by DHCP, open nothing.
func DefaultLaunch() protocol.LaunchSettings {
	return protocol.LaunchSettings{
		InstanceType:    "t3.small",
		ConversionImage: "rehost-convert",
		ConversionType:  "t3.small",
		IngressPorts:    []int{},
		BootMode:        "source",
		Network:         "dhcp",
		TestIdentity:    protocol.IdentityKeep,
		PrivateIP:       "auto",
		Disposition:     "started",
		VolumeType:      "gp3",
	}
}

type launchBlock struct {
	Name               string         `hcl:"name,label"`
	NameAt             hcl.Range      `hcl:"name,label_range"`
	At                 hcl.Range      `hcl:",def_range"`
	From               *hcl.Attribute `hcl:"from,optional"`
	InstanceType       *hcl.Attribute `hcl:"instance_type,optional"`
	ConversionImage    *hcl.Attribute `hcl:"conversion_image,optional"`
	ConversionType     *hcl.Attribute `hcl:"conversion_instance_type,optional"`
	Subnet             *hcl.Attribute `hcl:"subnet,optional"`
	TestSubnet         *hcl.Attribute `hcl:"test_subnet,optional"`
	SecurityGroups     *hcl.Attribute `hcl:"security_groups,optional"`
	TestSecurityGroups *hcl.Attribute `hcl:"test_security_groups,optional"`
	IngressPorts       *hcl.Attribute `hcl:"ingress_ports,optional"`
	PrivateIP          *hcl.Attribute `hcl:"private_ip,optional"`
	Profile            *hcl.Attribute `hcl:"instance_profile,optional"`
	Tenancy            *hcl.Attribute `hcl:"tenancy,optional"`
	HTTPTokens         *hcl.Attribute `hcl:"http_tokens,optional"`
	HopLimit           *hcl.Attribute `hcl:"http_hop_limit,optional"`
	UserData           *hcl.Attribute `hcl:"user_data,optional"`
	Disposition        *hcl.Attribute `hcl:"disposition,optional"`
	VolumeType         *hcl.Attribute `hcl:"volume_type,optional"`
	BootMode           *hcl.Attribute `hcl:"boot_mode,optional"`
	Network            *hcl.Attribute `hcl:"network,optional"`
	TestIdentity       *hcl.Attribute `hcl:"test_identity,optional"`
	PassphraseFile     *hcl.Attribute `hcl:"luks_passphrase_file,optional"`
	Tags               *hcl.Attribute `hcl:"tags,optional"`

	Disks      []launchDiskBlock      `hcl:"disk,block"`
	Interfaces []launchInterfaceBlock `hcl:"network_interface,block"`
	Scripts    []launchScriptBlock    `hcl:"script,block"`
	SSH        *launchSSHBlock        `hcl:"ssh,block"`
	Ready      *launchReadyBlock      `hcl:"ready,block"`
}

// launchDiskBlock says what volume one of a source's disks becomes.
type launchDiskBlock struct {
	Name       string         `hcl:"name,label"`
	NameAt     hcl.Range      `hcl:"name,label_range"`
	VolumeType *hcl.Attribute `hcl:"volume_type,optional"`
	IOPS       *hcl.Attribute `hcl:"iops,optional"`
	Throughput *hcl.Attribute `hcl:"throughput,optional"`
}

// launches reads the launch blocks, each over the one that it names in from.
func (r *reader) launches(blocks []launchBlock) []protocol.LaunchSettings {
	done := map[string]protocol.LaunchSettings{}
	var read func(b launchBlock, path []string) protocol.LaunchSettings
	read = func(b launchBlock, path []string) protocol.LaunchSettings {
		if s, ok := done[b.Name]; ok {
			return s
		}
		base, parent := DefaultLaunch(), ""
		r.ref(b.From, "launch", &parent)
		i := slices.IndexFunc(blocks, func(o launchBlock) bool { return o.Name == parent })
		switch {
		case parent == "" || i < 0:
		case slices.Contains(path, parent) || parent == b.Name:
			r.fail(b.From.Expr.Range(), "Launch blocks inherit from each other", "%s is a circle. Remove one of these from a \"from\".",
				strings.Join(append(path, b.Name, parent), " from "))
		default:
			base = read(blocks[i], append(slices.Clone(path), b.Name))
		}
		s := b.over(r, base)
		done[b.Name] = s
		return s
	}
	out := make([]protocol.LaunchSettings, 0, len(blocks))
	for _, b := range blocks {
		out = append(out, read(b, nil))
	}
	return out
}

// over reads a block over the settings that it inherits. Tags and disks are added to the inherited ones, everything else replaces.
func (b launchBlock) over(r *reader, s protocol.LaunchSettings) protocol.LaunchSettings {
	s.Name = b.Name
	r.text(b.InstanceType, &s.InstanceType)
	r.text(b.ConversionImage, &s.ConversionImage)
	r.text(b.ConversionType, &s.ConversionType)
	r.text(b.Subnet, &s.Subnet)
	r.text(b.TestSubnet, &s.TestSubnet)
	r.texts(b.SecurityGroups, &s.SecurityGroups)
	r.texts(b.TestSecurityGroups, &s.TestSecurityGroups)
	r.ports(b.IngressPorts, &s.IngressPorts)
	r.oneOf(b.PrivateIP, &s.PrivateIP, "auto", "copy")
	if r.text(b.Profile, &s.Profile) && !profile.MatchString(s.Profile) {
		r.fail(b.Profile.Expr.Range(), "Not an instance profile", "%q is neither its name nor its ARN; a role's ARN is another thing. Write for example %q.", s.Profile, "web")
	}
	r.oneOf(b.Tenancy, &s.Tenancy, "default", "dedicated", "host")
	r.oneOf(b.HTTPTokens, &s.HTTPTokens, "required", "optional")
	r.integer(b.HopLimit, &s.HopLimit, 1, 64)
	if r.text(b.UserData, &s.UserData) && len(s.UserData) > maxUserData {
		r.fail(b.UserData.Expr.Range(), "Too much user data", "It has %d bytes, EC2 takes %d. Let it fetch the rest.", len(s.UserData), maxUserData)
	}
	r.oneOf(b.Disposition, &s.Disposition, "started", "stopped")
	r.oneOf(b.VolumeType, &s.VolumeType, volumeTypes...)
	r.oneOf(b.BootMode, &s.BootMode, "source", "bios", "uefi")
	r.oneOf(b.Network, &s.Network, "dhcp", "keep")
	identity := string(s.TestIdentity)
	r.oneOf(b.TestIdentity, &identity, string(protocol.IdentityKeep), string(protocol.IdentityNew))
	s.TestIdentity = protocol.Identity(identity)
	if r.text(b.PassphraseFile, &s.PassphraseFile) && !filepath.IsAbs(s.PassphraseFile) {
		r.fail(b.PassphraseFile.Expr.Range(), "Not an absolute path", "The controller reads this file, on its own machine, when it converts. Write for example %q.", "/etc/rehost/keys/vault")
	}
	var tags map[string]string
	if r.tags(b.Tags, &tags); len(tags) > 0 {
		all := maps.Clone(s.Tags)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, tags)
		s.Tags = all
	}
	if s.VolumeType == "st1" || s.VolumeType == "sc1" {
		r.fail(b.At, "Not for a boot disk", "EC2 boots from no %s volume. Write volume_type = \"gp3\", and %q in the disk blocks of the disks that are to have it.", s.VolumeType, s.VolumeType)
	}
	if b.Ready != nil {
		b.Ready.read(r, &s.Ready)
	}
	s.Disks = b.disks(r, s)
	b.interfaces(r, &s)
	b.scripts(r, &s)
	b.SSH.read(r, &s)
	return s
}

// disks reads the disk blocks over the inherited ones.
func (b launchBlock) disks(r *reader, s protocol.LaunchSettings) []protocol.LaunchDisk {
	disks := slices.Clone(s.Disks)
	seen := map[string]bool{}
	for _, d := range b.Disks {
		if seen[d.Name] || !strings.HasPrefix(d.Name, "/dev/") {
			r.fail(d.NameAt, "Not a disk", "%q is not a device path, or is there twice. Write each disk of a source once, such as disk %q { ... }.", d.Name, "/dev/sdb")
			continue
		}
		seen[d.Name] = true
		disk := protocol.LaunchDisk{Name: d.Name, VolumeType: s.VolumeType}
		i := slices.IndexFunc(disks, func(o protocol.LaunchDisk) bool { return o.Name == d.Name })
		if i >= 0 {
			disk = disks[i]
			disks = slices.Delete(disks, i, i+1)
		}
		r.oneOf(d.VolumeType, &disk.VolumeType, volumeTypes...)
		r.integer(d.IOPS, &disk.IOPS, 100, 256000)
		r.integer(d.Throughput, &disk.Throughput, 125, 2000)
		d.fits(r, disk)
		disks = append(disks, disk)
	}
	return disks
}

// fits refuses figures that EC2 does not take for the type.
func (b launchDiskBlock) fits(r *reader, d protocol.LaunchDisk) {
	if b.IOPS != nil && d.IOPS > 0 && !slices.Contains([]string{"gp3", "io1", "io2"}, d.VolumeType) {
		r.fail(b.IOPS.NameRange, "Attribute without effect", "Volumes of type %s have no iops of their own. Remove it, or write volume_type = \"io2\".", d.VolumeType)
	}
	if b.Throughput != nil && d.Throughput > 0 && d.VolumeType != "gp3" {
		r.fail(b.Throughput.NameRange, "Attribute without effect", "Volumes of type %s have no throughput of their own. Remove it, or write volume_type = \"gp3\".", d.VolumeType)
	}
	if d.IOPS == 0 && (d.VolumeType == "io1" || d.VolumeType == "io2") {
		r.fail(b.NameAt, "Missing iops", "Volumes of type %s need iops. Write for example iops = 4000.", d.VolumeType)
	}
}

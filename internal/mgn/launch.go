package mgn

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rehost/protocol"
)

// defaultBlock is the block of servers that name none.
const defaultBlock = "default"

var volumeTypes = []string{"gp3", "gp2", "st1", "sc1", "standard"}

// launch returns the name of the launch block with what a row says; servers whose rows say the
// same share the block, which has the first one's name.
func (i *importer) launch(server string, row map[string]string) string {
	s := protocol.LaunchSettings{InstanceType: row[typeName], Profile: row[profile], Tags: map[string]string{}}
	if t := strings.ToLower(row[tenancy]); slices.Contains([]string{"", "default", "dedicated", "host"}, t) {
		s.Tenancy = t
	} else {
		i.fail(tenancy, "%q is no tenancy; write default, dedicated or host", row[tenancy])
	}
	if s.InstanceType != "" && !strings.Contains(s.InstanceType, ".") {
		i.fail(typeName, "%q is no instance type; write for example m6i.large", s.InstanceType)
	}
	transfer := strings.EqualFold(row[transferTag], "true")
	for _, column := range slices.Sorted(maps.Keys(row)) {
		i.setting(&s, column, row[column], transfer)
	}
	if len(s.Interfaces) > 0 && s.Subnet == "" {
		i.fail("mgn:launch:nic:0:subnet-id", "several interfaces, and no subnet of the first one; write it")
	}
	text, err := json.Marshal(s)
	if err != nil { // texts, numbers and lists of them: cannot be
		i.fail("", "%v", err)
	}
	if empty(s) {
		return defaultBlock
	}
	if i.launches[string(text)] == "" {
		s.Name = server
		if server == defaultBlock {
			s.Name = "of-" + server
		}
		i.launches[string(text)] = s.Name
		i.fleet.Launches = append(i.fleet.Launches, s)
	}
	return i.launches[string(text)]
}

func empty(s protocol.LaunchSettings) bool {
	return s.InstanceType == "" && s.Profile == "" && s.Tenancy == "" && len(s.Tags) == 0 && s.Subnet == "" &&
		len(s.SecurityGroups) == 0 && len(s.Interfaces) == 0 && len(s.Disks) == 0
}

// setting brings over the value of a column whose name is not fixed, or says why not.
func (i *importer) setting(s *protocol.LaunchSettings, column, value string, transfer bool) {
	if why := noPlace(column); why != "" {
		i.note(column, why)
		return
	}
	if key, ok := strings.CutPrefix(column, instanceTag); ok {
		s.Tags[key] = value
		return
	}
	if key, ok := strings.CutPrefix(column, serverTag); ok {
		if _, own := s.Tags[key]; !transfer {
			i.note(serverTag+"KEY", "servers have no tags of their own; with "+transferTag+" true they become the instance's")
		} else if !own {
			s.Tags[key] = value
		}
		return
	}
	if m := volumeColumn.FindStringSubmatch(column); m != nil {
		i.volume(s, column, m[1], strings.ToLower(value))
		return
	}
	if m := nicColumn.FindStringSubmatch(column); m != nil {
		i.nic(s, column, value, m)
		return
	}
	switch {
	case isFixed(column):
	case strings.HasPrefix(column, waveTag), strings.HasPrefix(column, appTag):
		i.note(column, "waves and applications have no tags, and no object in EC2 that could")
	default:
		i.note(column, "the column is not known")
	}
}

func (i *importer) volume(s *protocol.LaunchSettings, column, disk, kind string) {
	switch {
	case !strings.HasPrefix(disk, "/dev/"):
		i.fail(column, "%q is no disk of a Linux server; write the column as mgn:launch:volume:/dev/sda:type", disk)
	case kind == "io1" || kind == "io2":
		i.fail(column, "%s needs a number of IOPS, and this file cannot tell it; write gp3, and change the disk block afterwards", kind)
	case !slices.Contains(volumeTypes, kind):
		i.fail(column, "%q is no volume type; write one of %s", kind, strings.Join(volumeTypes, ", "))
	default:
		s.Disks = append(s.Disks, protocol.LaunchDisk{Name: disk, VolumeType: kind})
	}
}

// nic reads a column of a network interface; m are the parts of its name.
func (i *importer) nic(s *protocol.LaunchSettings, column, value string, m []string) {
	n, err := strconv.Atoi(m[1])
	if err != nil { // the pattern has digits only
		return
	}
	for len(s.Interfaces) < n {
		s.Interfaces = append(s.Interfaces, protocol.LaunchInterface{})
	}
	subnet, groups := &s.Subnet, &s.SecurityGroups
	if n > 0 {
		subnet, groups = &s.Interfaces[n-1].Subnet, &s.Interfaces[n-1].SecurityGroups
	}
	switch {
	case m[2] == "network-interface-id":
		i.note(column, "interfaces are made at each launch; an existing one is not attached")
	case m[2] == "subnet-id" && !strings.HasPrefix(value, "subnet-"):
		i.fail(column, "%q is no subnet; write its id, such as subnet-0123456789abcdef0", value)
	case m[2] == "subnet-id":
		*subnet = value
	case m[3] == "security-group-id" && !strings.HasPrefix(value, "sg-"):
		i.fail(column, "%q is no security group; write its id, such as sg-0123456789abcdef0", value)
	case m[3] == "security-group-id":
		*groups = append(*groups, value)
	default:
		i.address(s, column, value, n, m[4])
	}
}

func (i *importer) address(s *protocol.LaunchSettings, column, value string, n int, position string) {
	a, err := netip.ParseAddr(value)
	switch {
	case err != nil || !a.Is4():
		i.fail(column, "%q is no IPv4 address; write for example 10.0.1.7", value)
	case n == 0:
		i.note(column, "the first interface has an address of the subnet's, or with private_ip = \"copy\" the source's")
	case position != "0":
		i.note(column, "an interface has one address")
	default:
		s.Interfaces[n-1].PrivateIP = value
	}
}

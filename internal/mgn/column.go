package mgn

import (
	"regexp"
	"slices"
)

// Columns of MGN's inventory, as its user guide names them.
const (
	account     = "mgn:account-id"
	region      = "mgn:region"
	waveName    = "mgn:wave:name"
	waveText    = "mgn:wave:description"
	appName     = "mgn:app:name"
	appText     = "mgn:app:description"
	serverID    = "mgn:server:user-provided-id"
	platform    = "mgn:server:platform"
	fqdn        = "mgn:server:fqdn-for-action-framework"
	typeName    = "mgn:launch:instance-type"
	profile     = "mgn:launch:iam-instance-profile:name"
	tenancy     = "mgn:launch:placement:tenancy"
	hostID      = "mgn:launch:placement:host-id"
	licensing   = "mgn:launch:placement:operating-system-licensing"
	transferTag = "mgn:launch:transfer-server-tags"

	waveTag     = "mgn:wave:tag:"
	appTag      = "mgn:app:tag:"
	serverTag   = "mgn:server:tag:"
	instanceTag = "mgn:launch:tag:instance:"
)

// Columns with a number or a name in them: the subnet, the security groups, the addresses and the
// identity of the Nth network interface, and the type of a disk's volume.
var (
	nicColumn    = regexp.MustCompile(`^mgn:launch:nic:([0-9]|1[0-4]):(subnet-id|network-interface-id|(security-group-id|private-ip):([0-9]{1,2}))$`)
	volumeColumn = regexp.MustCompile(`^mgn:launch:volume:(.+):type$`)
)

// Settings lists every column by the name that docs/from-mgn.md has for it.
func Settings() []string {
	return []string{
		account, region, waveName, waveText, waveTag + "KEY", appName, appText, appTag + "KEY", serverID, platform, fqdn, serverTag + "KEY",
		typeName, profile, tenancy, hostID, licensing, transferTag, instanceTag + "KEY",
		"mgn:launch:nic:N:subnet-id", "mgn:launch:nic:N:network-interface-id", "mgn:launch:nic:N:security-group-id:M", "mgn:launch:nic:N:private-ip:M",
		"mgn:launch:volume:DISK:type", "mgn:server:id", "mgn:app:id", "mgn:wave:id",
	}
}

// noPlace says why the value of a column is not brought over; it is empty for the others.
func noPlace(column string) string {
	switch column {
	case account, region:
		return "the account and the region are the controller's own"
	case hostID:
		return "a host is not chosen; tenancy = \"host\" takes one with room"
	case licensing:
		return "the licence of a Linux system is what is on its disk"
	case "mgn:server:id", "mgn:app:id", "mgn:wave:id":
		return "it is the name of an object in MGN"
	}
	return ""
}

// fixed are the columns that every export begins with.
var fixed = []string{waveName, appName, serverID, platform, typeName, profile, tenancy}

func isFixed(column string) bool {
	return slices.Contains(append(slices.Clone(fixed), waveText, appText, fqdn, transferTag), column)
}

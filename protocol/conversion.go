package protocol

import "slices"

// ConversionOrder is the user data of a conversion instance. The instance has no other
// input than this and the volumes, and no credentials.
type ConversionOrder struct {
	Job     string             `json:"job"`
	Server  string             `json:"server"`
	Purpose string             `json:"purpose"` // test or cutover
	Disks   []ConversionDisk   `json:"disks"`
	Options ConversionSettings `json:"options"`
	Action  ConversionAction   `json:"action,omitempty"`
}

// ConversionAction says what to do with the guest.
type ConversionAction string

// Actions. An empty one is ActionApply.
const (
	ActionApply ConversionAction = "apply" // convert it
	ActionPlan  ConversionAction = "plan"  // say what would change
	ActionUndo  ConversionAction = "undo"  // give every file that a conversion changed its bytes back
)

// ConversionDisk is one attached volume; its NVMe serial is the volume id without the hyphen.
type ConversionDisk struct {
	Volume string `json:"volume"`
	Boot   bool   `json:"boot"`
}

// ConversionSettings are the launch settings that concern the conversion.
type ConversionSettings struct {
	Network string `json:"network"` // dhcp or keep; empty: dhcp
	// Passphrase opens the guest's LUKS devices; empty: they stay closed.
	Passphrase Secret   `json:"passphrase,omitempty"`
	Scripts    []Script `json:"scripts,omitempty"` // those of a phase run in this order
	// Identity says whether the guest stays the machine that it is; empty: [IdentityKeep].
	Identity Identity `json:"identity,omitempty"`
}

// Equal says whether two conversions have the same settings.
func (s ConversionSettings) Equal(o ConversionSettings) bool {
	return s.Network == o.Network && s.Passphrase == o.Passphrase && slices.Equal(s.Scripts, o.Scripts) && s.Identity == o.Identity
}

// Identity says what becomes of what tells a machine from others: its machine id, SSH host keys and the like.
type Identity string

// Identities.
const (
	IdentityKeep Identity = "keep" // the instance is the server
	IdentityNew  Identity = "new"  // it is another machine with the same software
)

// Secret is a text that no log and no error shows. Only JSON carries it.
type Secret string

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "(secret)" }

// ConversionReport is the outcome of a conversion. It comes back over the instance's
// serial console, between lines that [ConsoleReport] makes.
type ConversionReport struct {
	Job      string    `json:"job"`
	OK       bool      `json:"ok"`
	Problem  *Problem  `json:"problem,omitempty"`
	Guest    Guest     `json:"guest"`
	Changes  []Change  `json:"changes"`
	Findings []Finding `json:"findings,omitempty"`
	// Written are the volumes that something was written to, if only to a journal or to the superblock of a RAID; the others are as
	// they were, byte by byte. Empty: not known.
	Written []string `json:"written,omitempty"`
	// Scripts are those that ran, or would run, in the conversion.
	Scripts []ScriptRun `json:"scripts,omitempty"`
	Seconds float64     `json:"seconds"`
}

// Guest is what the inspection found on the disks.
type Guest struct {
	OS         string   `json:"os"`
	Kernel     string   `json:"kernel"` // the kernel that will boot
	Kernels    []string `json:"kernels"`
	BootMode   string   `json:"boot_mode"`   // bios or uefi
	RootDevice string   `json:"root_device"` // as seen in the conversion instance
	RootUUID   string   `json:"root_uuid"`
	Initramfs  string   `json:"initramfs"` // initramfs-tools, dracut
	Network    string   `json:"network"`   // ifupdown, netplan, ...
}

// Change is one thing that the conversion did to the guest.
type Change struct {
	Path   string `json:"path"`   // in the guest
	Action string `json:"action"` // create, edit, append, remove, link
	Reason string `json:"reason"`
	Before string `json:"before,omitempty"` // sha256 of the content before; empty when there was none
	After  string `json:"after,omitempty"`  // sha256 of the content after; empty when removed
	Detail string `json:"detail,omitempty"` // what changed, for people: added and removed lines, module names
}

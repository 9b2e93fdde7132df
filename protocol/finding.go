package protocol

// Finding is what a look at a server, a guest's disks or the cloud has found before anything is changed.
// Critical ones block what was asked for; the others are shown and things go on.
type Finding struct {
	Severity Severity    `json:"severity"`
	Code     FindingCode `json:"code"`
	Subject  string      `json:"subject,omitempty"` // what it is about: a path in the guest, a disk, a setting
	Message  string      `json:"message"`
	Hint     string      `json:"hint,omitempty"`
}

// Severity says how much a finding matters.
type Severity string

// Severities.
const (
	SeverityCritical Severity = "critical" // it would not work
	SeverityWarning  Severity = "warning"  // it works, and something will be missing or slow
	SeverityInfo     Severity = "info"     // worth knowing
)

// FindingCode is stable; docs/findings.md has an entry for each, and a test holds that.
type FindingCode string

// Finding codes.
const (
	FindingNoKernel     FindingCode = "no-kernel"           // no kernel with modules, or none that will boot can be told
	FindingKernelDriver FindingCode = "kernel-lacks-driver" // the kernel that boots has no NVMe or ENA driver
	FindingNoInitramfs  FindingCode = "no-initramfs"        // drivers are modules and the kernel has no initramfs
	FindingSpace        FindingCode = "no-space"            // root or /boot is too full
	FindingNoDHCP       FindingCode = "no-dhcp-client"      // addresses should come from DHCP and the guest has no client
	FindingNetwork      FindingCode = "network-unknown"     // the guest's network configuration is of a kind that is not known
)

// FindingCodes are all codes.
var FindingCodes = []FindingCode{
	FindingNoKernel, FindingKernelDriver, FindingNoInitramfs, FindingSpace, FindingNoDHCP, FindingNetwork,
}

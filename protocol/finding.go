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

// BlocksApply says that a finding of the cloud keeps a configuration from being applied: the controller's policy or the configuration
// is wrong. What the account only lacks, an image or a larger quota, may come while servers replicate.
func (f Finding) BlocksApply() bool {
	return f.Severity == SeverityCritical && (f.Code == FindingPermission || f.Code == FindingNoProfile || f.Code == FindingKey)
}

// FindingCode is stable; docs/findings.md has an entry for each, and a test holds that.
type FindingCode string

// Finding codes.
const (
	FindingNoKernel     FindingCode = "no-kernel"           // no kernel with modules, or none that will boot can be told
	FindingKernelDriver FindingCode = "kernel-lacks-driver" // the kernel that boots has no NVMe or ENA driver
	FindingNoInitramfs  FindingCode = "no-initramfs"        // drivers are modules and the kernel has no initramfs
	FindingSpace        FindingCode = "no-space"            // a filesystem that is written to is too full
	FindingNoDHCP       FindingCode = "no-dhcp-client"      // addresses should come from DHCP and the guest has no client
	FindingNetwork      FindingCode = "network-unknown"     // the guest's network configuration is of a kind that is not known
	FindingCardNames    FindingCode = "network-cards"       // what the network cards of the instance are called
	FindingBound        FindingCode = "bound-to-network"    // a service or a firewall is bound to an address or a card that will be gone

	FindingBootLoader    FindingCode = "boot-loader"          // the guest boots with something that is not GRUB 2
	FindingOtherKernel   FindingCode = "other-kernel"         // the default kernel does not work in EC2, another one will boot
	FindingInitramfsTool FindingCode = "initramfs-lacks-tool" // the initramfs lacks a program that the root filesystem needs
	FindingUEFIFallback  FindingCode = "no-uefi-fallback"     // there is no loader at the path that UEFI firmware starts by itself
	FindingBIOSBoot      FindingCode = "no-bios-boot"         // a disk with a GPT has nothing that BIOS or UEFI firmware starts

	FindingFstabName    FindingCode = "fstab-device-name" // fstab names a device that is called otherwise in EC2
	FindingFstabMissing FindingCode = "fstab-missing"     // fstab mounts what is on none of the disks
	FindingFstabNetwork FindingCode = "fstab-network"     // fstab mounts something over the network
	FindingFstabShare   FindingCode = "fstab-share"       // fstab mounts a share of the old hypervisor

	FindingFirstBoot FindingCode = "no-first-boot"   // scripts of the first boot cannot be run
	FindingRelabel   FindingCode = "selinux-relabel" // what the conversion writes has no SELinux label

	FindingScript        FindingCode = "script-failed"  // a script of the launch settings failed, or could not be run
	FindingScriptChanged FindingCode = "script-changed" // a script changed what the conversion had made
	FindingIdentity      FindingCode = "identity"       // what stays the source's in a guest with a new identity

	FindingThin           FindingCode = "lvm-thin"        // the system is in a thin pool of LVM
	FindingEncrypted      FindingCode = "encrypted"       // the system is on LUKS
	FindingRootFilesystem FindingCode = "root-filesystem" // the root is of a kind that cannot be converted, or on no replicated disk
	FindingDiskLayout     FindingCode = "disk-layout"     // a disk's partition table cannot be read

	FindingNotSurveyed FindingCode = "not-surveyed" // what the conversion would say is not known
	FindingNoBootDisk  FindingCode = "no-boot-disk" // no replicated disk boots
	FindingNotTracked  FindingCode = "not-tracked"  // writes are not tracked, everything is compared
	FindingWriteRate   FindingCode = "write-rate"   // more is written than the bandwidth lets through
	FindingBoots       FindingCode = "boots"        // a fresh copy did not boot, or nobody has found out for long

	// Of the cloud.
	FindingPermission   FindingCode = "permission-missing" // the controller may not make a call that it needs
	FindingNoImage      FindingCode = "no-image"           // an image is not in the account
	FindingNoProfile    FindingCode = "instance-profile"   // there is no such instance profile
	FindingKey          FindingCode = "kms-key"            // a key cannot encrypt volumes
	FindingQuota        FindingCode = "quota"              // a quota is less than what is needed
	FindingCloudUnknown FindingCode = "cloud-unknown"      // the cloud does not say

	// Of the disks.
	FindingNoRoot        FindingCode = "no-root"             // no Linux root filesystem was found
	FindingSeveralRoots  FindingCode = "several-roots"       // more than one root filesystem was found
	FindingWindows       FindingCode = "windows"             // the disks hold Windows
	FindingArchitecture  FindingCode = "architecture"        // the guest is not one for 64-bit x86
	FindingTruncated     FindingCode = "disk-truncated"      // a partition or filesystem reaches beyond the end of its disk
	FindingDamaged       FindingCode = "filesystem-damaged"  // a filesystem needs a repair that cannot be made without a decision
	FindingRepaired      FindingCode = "filesystem-repaired" // a filesystem was repaired, on the clone
	FindingLVM           FindingCode = "lvm-unsupported"     // a logical volume of a kind that is not activated
	FindingLVMIncomplete FindingCode = "lvm-incomplete"      // a volume group lacks some of its disks
	FindingLVMName       FindingCode = "lvm-name-clash"      // two volume groups have the same name
	FindingRAID          FindingCode = "raid-unsupported"    // an array of a level that is not assembled
	FindingDegraded      FindingCode = "raid-degraded"       // an array lacks members
)

// FindingCodes are all codes.
var FindingCodes = []FindingCode{
	FindingNoKernel, FindingKernelDriver, FindingNoInitramfs, FindingSpace, FindingNoDHCP, FindingNetwork, FindingCardNames, FindingBound,
	FindingBootLoader, FindingOtherKernel, FindingInitramfsTool, FindingUEFIFallback, FindingBIOSBoot,
	FindingFstabName, FindingFstabMissing, FindingFstabNetwork, FindingFstabShare,
	FindingFirstBoot, FindingScript, FindingScriptChanged, FindingRelabel, FindingIdentity,
	FindingThin, FindingEncrypted, FindingRootFilesystem, FindingDiskLayout,
	FindingNotSurveyed, FindingNoBootDisk, FindingNotTracked, FindingWriteRate, FindingBoots,
	FindingPermission, FindingNoImage, FindingNoProfile, FindingKey, FindingQuota, FindingCloudUnknown,
	FindingNoRoot, FindingSeveralRoots, FindingWindows, FindingArchitecture, FindingTruncated,
	FindingDamaged, FindingRepaired, FindingLVM,
	FindingLVMIncomplete, FindingLVMName, FindingRAID, FindingDegraded,
}

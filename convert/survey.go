package convert

import (
	"fmt"
	"slices"

	"rehost/protocol"
)

// RootTypes are the filesystems that can hold the root of a guest.
var RootTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs"}

// IsRoot says whether a filesystem is the root of a guest, by what is in it.
func IsRoot(r *Root) bool {
	has := func(p string) bool { _, err := r.Lstat(p); return err == nil }
	_, noTable := r.Stat("/etc/fstab")
	// The release file may be a link into a /usr of its own, which is not mounted yet.
	return noTable == nil && has("/usr") && (has("/etc/os-release") || has("/etc/debian_version") || has("/etc/redhat-release"))
}

// CheckStack says what keeps a guest from being found on its disks, as long as it runs and says itself where it mounts what:
// [Filesystem.Mount] is set for all that it has mounted. Of an offline guest only finding and mounting it can tell.
func CheckStack(disks []Disk) []protocol.Finding {
	var found []protocol.Finding
	add := func(severity protocol.Severity, code protocol.FindingCode, subject, hint, format string, args ...any) {
		found = append(found, protocol.Finding{Severity: severity, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)})
	}
	root := false
	for _, d := range disks {
		for _, s := range d.Filesystems {
			if s.Mount != "/" && !slices.Contains(converted, s.Mount) {
				continue
			}
			if s.Mount == "/" {
				root = true
				if !slices.Contains(RootTypes, s.Type) {
					add(protocol.SeverityCritical, protocol.FindingRootFilesystem, "/", "copy the root to ext4, xfs or btrfs on the source", "the root filesystem is %q, which cannot be converted", s.Type)
				}
			}
			if _, ok := s.Layer(LayerThin); ok {
				add(protocol.SeverityCritical, protocol.FindingThin, s.Mount, "move it to a plain logical volume on the source", "%s is in a thin pool of LVM, which cannot be converted", s.Mount)
			}
			if _, ok := s.Layer(LayerLUKS); ok {
				add(protocol.SeverityWarning, protocol.FindingEncrypted, s.Mount, "give the passphrase in the launch settings", "%s is encrypted with LUKS: the conversion needs the passphrase", s.Mount)
			}
		}
	}
	if !root {
		add(protocol.SeverityCritical, protocol.FindingRootFilesystem, "/", "add the disk of the root filesystem to the server's disks", "the root filesystem is on none of the %d replicated disks", len(disks))
	}
	return found
}

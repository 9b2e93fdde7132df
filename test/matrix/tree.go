package matrix

import (
	"context"
	"fmt"
	"strings"

	"rehost/internal/command"
)

// hashScript mounts the root of the disk $1 at byte $2 with the type $3, changes nothing on it, and prints a hash of all that its files
// are: names, kinds, contents, modes, owners, links, extended attributes. The times are left out.
const hashScript = `set -eu
options=ro,loop,offset=$2,sizelimit=$4
case $3 in ext4) options=$options,noload ;; xfs) options=$options,norecovery,nouuid ;; btrfs) options=$options,subvol=@rootfs ;; esac
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root
mount -t "$3" -o "$options" "$1" /mnt/root
tar --sort=name --mtime=@0 --numeric-owner --xattrs --xattrs-include='*' -C /mnt/root -cf - . | sha256sum`

// hash returns a hash of the server's root tree, read in mount and pid namespaces of its own.
func (c combination) hash(ctx context.Context, disk string) (string, error) {
	out, err := command.Run(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"sh", "-c", hashScript, "hash", disk, fmt.Sprint(c.rootAt()), c.fs, fmt.Sprint(rootBytes))
	return strings.TrimSpace(string(out)), err
}

// rootAt is the byte at which the root's partition begins.
func (c combination) rootAt() int64 {
	if c.table == "uefi" {
		return firstPart + espBytes
	}
	return firstPart
}

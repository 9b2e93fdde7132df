package image

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
)

// Variant is one of the servers that there are disks of.
type Variant string

const (
	// Ledger is the server that the demo migrates. It is what the empty value means.
	Ledger Variant = "source"
	// CloudInit is a server that has never run: Debian with cloud-init and nothing
	// that a machine has for itself alone, as the images that clouds offer. It
	// takes its name, its keys and its network from EC2's metadata.
	CloudInit Variant = "cloudinit"
)

// rootfs is the ledger's own configuration, cloudfs that of the server with
// cloud-init; finish is the last step of an installation.
//
//go:embed all:rootfs
var rootfs embed.FS

//go:embed all:cloudfs
var cloudfs embed.FS

//go:embed finish.sh
var finish []byte

// base is on every server. The kernel is the generic one on purpose: NVMe is a
// module in it, while the cloud kernel has it built in.
var base = []string{
	"busybox", "dbus", "e2fsprogs", "grub-pc", "ifupdown", "initramfs-tools", "iproute2",
	"isc-dhcp-client", "kmod", "linux-image-amd64", "netbase", "openssh-server", "procps", "systemd-sysv", "udev", "zstd",
}

// content is what a variant is made of.
type content struct {
	packages []string // installed without their recommendations
	tree     embed.FS
	top      string // the tree's only folder
	// anonymous servers have no identity: host keys, machine id and root's password are taken away.
	anonymous bool
}

func (v Variant) content() (content, error) {
	switch v {
	case Ledger:
		return content{packages: slices.Concat([]string{"apache2"}, base), tree: rootfs, top: "rootfs"}, nil
	case CloudInit:
		packages := slices.Concat(base, []string{"cloud-guest-utils", "cloud-init", "curl", "sudo"})
		return content{packages: packages, tree: cloudfs, top: "cloudfs", anonymous: true}, nil
	}
	return content{}, fmt.Errorf("there is no server %q", v)
}

// recipe returns a short hash of all that decides what is on the disk.
func (c content) recipe() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, recipeVersion, diskBytes, swapBytes, c.packages)
	h.Write(finish)
	err := fs.WalkDir(c.tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := c.tree.ReadFile(path)
		_, _ = fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:12], err
}

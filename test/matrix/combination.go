// Package matrix boots many kinds of Linux servers before and after their conversion. Each combination of
// filesystem, partition table, firmware, network configuration and initramfs is a disk of its own; the control,
// which is the disk as it was, must fail for the reason that its combination names.
package matrix

import "regexp"

// combination is one server.
type combination struct {
	name   string
	fs     string // of the root: ext4, xfs, btrfs (in a subvolume)
	table  string // mbr, gpt (both for BIOS), uefi (a GPT and an ESP without a fallback loader)
	pack   string // how the initramfs is compressed
	whole  bool   // the initramfs has the drivers of all hardware, not of virtio alone
	units  string // what is enabled for the network
	files  map[string]string
	fstab  string         // lines after that of the root
	fails  *regexp.Regexp // what the control shows on its console
	silent bool           // the control boots, and nothing reaches it over the network: fails is its login prompt
}

// Why a control fails.
var (
	noRoot   = regexp.MustCompile(`ALERT!.*does not exist\.\s+Dropping to a shell`)
	noLoader = regexp.MustCompile(`BdsDxe: (No bootable option|failed to load)|UEFI Interactive Shell`)
	stuck    = regexp.MustCompile(`Timed out waiting for device[^\n]*vdb|You are in emergency mode`)
	login    = regexp.MustCompile(`matrix login:`)
)

const (
	// mac is that of the server's old card; its new one has another.
	mac       = "52:54:00:aa:bb:01"
	otherMAC  = "52:54:00:aa:bb:02"
	espSerial = "1ED9-E123"
	// The old card is in slot 3.
	ifupdown = "auto lo\niface lo inet loopback\nauto ens3\niface ens3 inet dhcp\n"
)

func interfaces(text string) map[string]string {
	return map[string]string{"etc/network/interfaces": text}
}

// combinations are all servers of the matrix.
var combinations = []combination{
	{
		name: "ext4, MBR, ifupdown, zstd", fs: "ext4", table: "mbr", pack: "zstd", units: "networking", fails: noRoot,
		files: interfaces(ifupdown),
	},
	{
		name: "ext4, UEFI, netplan, gzip", fs: "ext4", table: "uefi", pack: "gzip", units: "systemd-networkd", fails: noLoader,
		files: map[string]string{"etc/netplan/50-server.yaml": "network:\n  version: 2\n  ethernets:\n    ens3:\n      match:\n        macaddress: " +
			mac + "\n      dhcp4: true\n"},
		fstab: "UUID=" + espSerial + " /boot/efi vfat umask=0077 0 1\n",
	},
	{
		name: "xfs, GPT, systemd-networkd, xz", fs: "xfs", table: "gpt", pack: "xz", units: "systemd-networkd", fails: noRoot,
		files: map[string]string{"etc/systemd/network/10-ens3.network": "[Match]\nName=ens3\n\n[Network]\nDHCP=ipv4\n"},
	},
	{
		name: "btrfs subvolume, MBR, NetworkManager, zstd", fs: "btrfs", table: "mbr", pack: "zstd", units: "NetworkManager", fails: noRoot,
		files: map[string]string{"etc/NetworkManager/system-connections/ens3.nmconnection": "[connection]\nid=ens3\ntype=ethernet\n" +
			"interface-name=ens3\n\n[ethernet]\nmac-address=" + mac + "\n\n[ipv4]\nmethod=auto\n"},
	},
	{
		name: "fstab with device names, NFS and a dead disk", fs: "ext4", table: "mbr", pack: "gzip", whole: true, units: "networking", fails: stuck,
		files: interfaces(ifupdown),
		fstab: "/dev/vdb1 /srv ext4 defaults 0 2\nstore.example:/export /mnt nfs defaults,_netdev 0 0\n",
	},
	{
		name: "static address bound to a MAC", fs: "ext4", table: "gpt", pack: "xz", whole: true, units: "networking", fails: login, silent: true,
		files: map[string]string{
			"etc/network/interfaces":                   "auto lo\niface lo inet loopback\nauto lan0\niface lan0 inet static\n    address 10.0.2.15/24\n    gateway 10.0.2.2\n",
			"etc/udev/rules.d/70-persistent-net.rules": `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="` + mac + `", NAME="lan0"` + "\n",
		},
	},
}

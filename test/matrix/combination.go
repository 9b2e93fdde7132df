// Package matrix boots many kinds of Linux servers before and after their conversion. Each combination of
// storage, filesystem, partition table, firmware, network configuration and initramfs is a disk of its own; the control,
// which is the disk as it was, must fail for the reason that its combination names.
package matrix

import "regexp"

// combination is one server.
type combination struct {
	name   string
	fs     string // of the root: ext4, xfs, btrfs (in a subvolume)
	table  string // mbr, gpt (both for BIOS), uefi (a GPT and an ESP without a fallback loader)
	stack  string // what the root lies on: a partition, lvm (as /var does; /boot is a partition), raid1 (over two disks)
	maker  string // of the initramfs: initramfs-tools or dracut (hostonly)
	pack   string // how the initramfs is compressed
	whole  bool   // the initramfs has the drivers of all hardware, not of virtio alone
	device string // how the kernel's command line names the root; empty: as GRUB does
	units  string // what is enabled for the network
	files  map[string]string
	fstab  string         // lines after that of the root
	fails  *regexp.Regexp // what the control shows on its console
	silent bool           // the control boots, and nothing reaches it over the network: fails is its login prompt
	short  bool           // it is tried in "make test" too
}

// Why a control fails.
var (
	noRoot   = regexp.MustCompile(`ALERT!.*does not exist\.\s+Dropping to a shell`)
	noRootD  = regexp.MustCompile(`Job dev-(disk|mapper)[^\n]*running \(([3-5]\ds|\d+min( \d+s)?) / no limit\)|Warning: Could not boot`) // dracut's systemd waits for ever, or dracut gives up
	noLoader = regexp.MustCompile(`BdsDxe: (No bootable option|failed to load)|UEFI Interactive Shell`)
	stuck    = regexp.MustCompile(`Timed out waiting for device[^\n]*sdb|You are in emergency mode`)
	login    = regexp.MustCompile(`matrix login:`)
)

const (
	// mac is that of the server's old card; its new one has another.
	mac       = "52:54:00:aa:bb:01"
	otherMAC  = "52:54:00:aa:bb:02"
	espSerial = "1ED9-E123"
	esp       = "UUID=" + espSerial + " /boot/efi vfat umask=0077 0 1\n"
)

// What the old server has for its card, which is in slot 3.
var (
	ifupdown = map[string]string{"etc/network/interfaces": "auto lo\niface lo inet loopback\nauto ens3\niface ens3 inet dhcp\n"}
	keyfile  = map[string]string{"etc/NetworkManager/system-connections/ens3.nmconnection": "[connection]\nid=ens3\ntype=ethernet\n" +
		"interface-name=ens3\n\n[ethernet]\nmac-address=" + mac + "\n\n[ipv4]\nmethod=auto\n"}
)

func networkd(match, text string) map[string]string {
	return map[string]string{"etc/systemd/network/10-lan.network": "[Match]\n" + match + "\n\n[Network]\n" + text}
}

func netplan(text string) map[string]string {
	return map[string]string{"etc/netplan/50-server.yaml": "network:\n  version: 2\n  ethernets:\n" + text}
}

// combinations are all servers of the matrix.
var combinations = []combination{
	{
		name: "ext4, MBR, ifupdown, zstd", fs: "ext4", table: "mbr", pack: "zstd", units: "networking", fails: noRoot,
		files: ifupdown,
	},
	{
		name: "ext4, UEFI, netplan, gzip", fs: "ext4", table: "uefi", pack: "gzip", units: "systemd-networkd", fails: noLoader, short: true,
		files: netplan("    ens3:\n      match:\n        macaddress: " + mac + "\n      dhcp4: true\n"),
		fstab: esp,
	},
	{
		name: "xfs, GPT, systemd-networkd, xz", fs: "xfs", table: "gpt", pack: "xz", units: "systemd-networkd", fails: noRoot,
		files: networkd("Name=ens3", "DHCP=ipv4\n"),
	},
	{
		name: "btrfs subvolume, MBR, NetworkManager, zstd", fs: "btrfs", table: "mbr", pack: "zstd", units: "NetworkManager", fails: noRoot, short: true,
		files: keyfile,
	},
	{
		name: "btrfs subvolume, UEFI, systemd-networkd, xz", fs: "btrfs", table: "uefi", pack: "xz", units: "systemd-networkd", fails: noLoader,
		files: networkd("MACAddress="+mac, "DHCP=yes\n"),
		fstab: esp,
	},
	{
		name: "fstab with device names, NFS and a dead disk", fs: "ext4", table: "mbr", pack: "gzip", whole: true, units: "networking", fails: stuck,
		files: ifupdown,
		fstab: "/dev/sdb1 /srv ext4 defaults 0 2\nstore.example:/export /mnt nfs defaults,_netdev 0 0\n",
	},
	{
		name: "root by a device name, xfs, GPT, NetworkManager, gzip", fs: "xfs", table: "gpt", pack: "gzip", whole: true, units: "NetworkManager", fails: noRoot,
		device: "/dev/vda2", files: keyfile,
	},
	{
		name: "static address bound to a MAC by udev, GPT, zstd", fs: "ext4", table: "gpt", pack: "zstd", whole: true, units: "networking", fails: login, silent: true,
		files: map[string]string{
			"etc/network/interfaces":                   "auto lo\niface lo inet loopback\nauto lan0\niface lan0 inet static\n    address 10.0.2.15/24\n    gateway 10.0.2.2\n",
			"etc/udev/rules.d/70-persistent-net.rules": `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="` + mac + `", NAME="lan0"` + "\n",
		},
	},
	{
		name: "static address bound to a MAC by netplan, MBR, gzip", fs: "ext4", table: "mbr", pack: "gzip", whole: true, units: "systemd-networkd", fails: login, silent: true,
		files: netplan("    lan0:\n      match:\n        macaddress: " + mac + "\n      set-name: lan0\n      addresses: [10.0.2.15/24]\n" +
			"      routes:\n        - to: default\n          via: 10.0.2.2\n"),
	},
	{
		name: "LVM with /boot and /var apart, ext4, MBR, ifupdown, zstd", fs: "ext4", table: "mbr", stack: "lvm", pack: "zstd", units: "networking", fails: noRoot, short: true,
		files: ifupdown,
	},
	{
		name: "LVM with /boot and /var apart, xfs, UEFI, NetworkManager, gzip", fs: "xfs", table: "uefi", stack: "lvm", pack: "gzip", units: "NetworkManager", fails: noLoader,
		files: keyfile, fstab: esp,
	},
	{
		name: "RAID1, ext4, GPT, ifupdown, xz", fs: "ext4", table: "gpt", stack: "raid1", pack: "xz", units: "networking", fails: noRoot,
		files: ifupdown,
	},
	{
		name: "RAID1, xfs, MBR, netplan, zstd", fs: "xfs", table: "mbr", stack: "raid1", pack: "zstd", units: "systemd-networkd", fails: noRoot,
		files: netplan("    ens3:\n      dhcp4: true\n"),
	},
	{
		name: "dracut, ext4, GPT, systemd-networkd, zstd", fs: "ext4", table: "gpt", maker: "dracut", pack: "zstd", units: "systemd-networkd", fails: noRootD, short: true,
		files: networkd("Name=ens3", "DHCP=ipv4\n"),
	},
	{
		name: "dracut, xfs, UEFI, NetworkManager, xz", fs: "xfs", table: "uefi", maker: "dracut", pack: "xz", units: "NetworkManager", fails: noLoader,
		files: keyfile, fstab: esp,
	},
	{
		name: "dracut, LVM with /boot and /var apart, ext4, MBR, ifupdown, gzip", fs: "ext4", table: "mbr", stack: "lvm", maker: "dracut", pack: "gzip",
		units: "networking", fails: noRootD, files: ifupdown,
	},
}

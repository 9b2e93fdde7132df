#!/bin/sh
# Runs in private mount and pid namespaces. It lays a root tree out as the filesystem of one server of the matrix,
# configures it, and makes its initramfs, its boot loader's menu and its loader. Nothing outlives the namespaces:
# the loop device is released with its last mount.
# $1: a folder to work in, with the files tree (unpacked here) and key; the rest is in the environment.
set -eu
dir=$1
mkdir -p "$dir/dev" "$dir/chroot"
root=$dir/chroot

case $FS in
ext4) mkfs.ext4 -q -F -O ^metadata_csum_seed,^orphan_file -E lazy_itable_init=0,lazy_journal_init=0 "$dir/root.raw" ;;
xfs) mkfs.xfs -q -f -i nrext64=0 "$dir/root.raw" ;;
btrfs) mkfs.btrfs -q -f "$dir/root.raw" ;;
esac
uuid=$(blkid -p -s UUID -o value "$dir/root.raw")

# A /dev with the root device under a neutral name: GRUB's tools take a loop device for a file in another filesystem.
device=$(losetup --find --show "$dir/root.raw")
exec 9<"$device"
losetup --detach "$device" # put off until nobody has it open
mount -t tmpfs -o mode=755 dev "$dir/dev"
for n in null zero full random urandom tty; do
	cp -a "/dev/$n" "$dir/dev/$n"
done
cp -a "$device" "$dir/dev/rootfs"
mkdir -p "$dir/dev/disk/by-uuid"
ln -s ../../rootfs "$dir/dev/disk/by-uuid/$uuid"
mount --bind "$dir/dev" /dev
if [ "$FS" = btrfs ]; then
	mount /dev/rootfs "$root"
	btrfs -q subvolume create "$root/@rootfs"
	umount "$root"
	mount -o subvol=@rootfs /dev/rootfs "$root"
else
	mount /dev/rootfs "$root"
fi
exec 9<&-
tar -C "$root" -xf "$TREE"
cp -a "$dir/files/." "$root/"
chmod 600 "$root"/etc/NetworkManager/system-connections/* "$root"/etc/netplan/* 2>/dev/null || true
sed -i "s/ROOT-UUID/$uuid/" "$root/etc/fstab"

mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
chroot "$root" systemd-machine-id-setup
for unit in NetworkManager systemd-networkd networking; do
	chroot "$root" systemctl -q disable $unit 2>/dev/null || true
done
for unit in $UNITS; do
	chroot "$root" systemctl -q enable $unit
done
chroot "$root" update-initramfs -u -k all >"$dir/initramfs.log" 2>&1 || { cat "$dir/initramfs.log" >&2; exit 1; }
if grep '^W: No ' "$dir/initramfs.log" >&2; then # another compression than was asked for
	exit 1
fi
mkdir -p "$root/boot/grub"
chroot "$root" grub-editenv /boot/grub/grubenv create
prefix=/boot/grub
[ "$FS" != btrfs ] || prefix=/@rootfs/boot/grub
case $TABLE in
uefi)
	printf 'search.fs_uuid %s root\nset prefix=($root)%s\n' "$uuid" "$prefix" >"$root/tmp/load.cfg"
	chroot "$root" grub-mkimage -O x86_64-efi -c /tmp/load.cfg -p "$prefix" -o /tmp/grubx64.efi \
		part_gpt fat ext2 xfs btrfs search search_fs_uuid normal linux configfile test echo gzio all_video loadenv boot regexp
	cp "$root/tmp/grubx64.efi" "$dir/"
	mkdir -p "$root/boot/grub/x86_64-efi" "$root/boot/efi"
	cp "$root"/usr/lib/grub/x86_64-efi/*.mod "$root"/usr/lib/grub/x86_64-efi/*.lst "$root/boot/grub/x86_64-efi/"
	;;
*)
	kind=part_gpt partition=gpt2
	[ "$TABLE" = gpt ] || kind=part_msdos partition=msdos1
	mkdir -p "$root/boot/grub/i386-pc"
	cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
	module=$FS
	[ "$FS" != ext4 ] || module=ext2
	chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p "(,$partition)$prefix" biosdisk "$kind" "$module" search_fs_uuid
	cp "$root/tmp/core.img" "$root/usr/lib/grub/i386-pc/boot.img" "$dir/"
	;;
esac
rm -f "$root"/tmp/*
chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg
fstrim "$root" || true
umount "$root/dev" "$root/proc" "$root/sys"
umount "$root"

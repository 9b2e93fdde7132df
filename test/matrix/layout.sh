#!/bin/sh
# Runs in private mount and pid namespaces. It lays a root tree out as the filesystems of one server of the matrix,
# configures it, and makes its initramfs, its boot loader's menu and its loader. Nothing outlives the namespaces:
# a loop device is released with its last mount.
# $1: a folder to work in, with the files tree (unpacked here); the rest is in the environment.
set -eu
dir=$1
root=$dir/chroot
mkdir -p "$dir/dev/disk/by-uuid" "$root"
mount -t tmpfs -o mode=755 dev "$dir/dev"
mkdir -p "$dir/dev/disk/by-uuid"
for n in null zero full random urandom tty loop-control; do
	cp -a "/dev/$n" "$dir/dev/$n"
done

# format FILESYSTEM NAME FD: makes a filesystem in NAME.raw and a device NAME, which is released when the descriptor and
# the mounts are closed. Its name is neutral: GRUB's tools take a loop device for a file in another filesystem.
format() {
	case $1 in
	ext4) mkfs.ext4 -q -F -O ^metadata_csum_seed,^orphan_file -E lazy_itable_init=0,lazy_journal_init=0 "$dir/$2.raw" ;;
	xfs) mkfs.xfs -q -f -i nrext64=0 "$dir/$2.raw" ;;
	btrfs) mkfs.btrfs -q -f "$dir/$2.raw" ;;
	esac
	device=$(losetup --find --show "$dir/$2.raw")
	eval "exec $3<\"$device\""
	losetup --detach "$device" # put off until nobody has it open
	cp -a "$device" "$dir/dev/$2fs"
	ln -s "../../$2fs" "$dir/dev/disk/by-uuid/$(uuid "$2")"
}
uuid() { blkid -p -s UUID -o value "$dir/$1.raw"; }

format "$FS" root 7
if [ "$STACK" = lvm ]; then
	format ext4 boot 8
	format "$FS" var 9
fi
mount --bind "$dir/dev" /dev
if [ "$FS" = btrfs ]; then
	mount /dev/rootfs "$root"
	btrfs -q subvolume create "$root/@rootfs"
	umount "$root"
	mount -o subvol=@rootfs /dev/rootfs "$root"
else
	mount /dev/rootfs "$root"
fi
if [ "$STACK" = lvm ]; then
	mkdir "$root/boot" "$root/var"
	mount /dev/bootfs "$root/boot"
	mount /dev/varfs "$root/var"
fi
exec 7<&- 8<&- 9<&-
tar -C "$root" -xf "$TREE"
cp -a "$dir/files/." "$root/"
chmod 600 "$root"/etc/NetworkManager/system-connections/* "$root"/etc/netplan/* 2>/dev/null || true
sed -i "s/ROOT-UUID/$(uuid root)/" "$root/etc/fstab"
[ "$STACK" != lvm ] || sed -i "s/BOOT-UUID/$(uuid boot)/" "$root/etc/fstab"

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

make_initramfs() {
	if [ "$MAKER" = dracut ]; then # which is all that is left of the two, as on a server that was installed with it
		chroot "$root" dpkg --purge --force-depends initramfs-tools initramfs-tools-core
		rm -f "$root"/boot/initrd.img-*
		for kernel in "$root"/lib/modules/*; do
			kernel=${kernel##*/}
			chroot "$root" dracut --force --kver "$kernel" "/boot/initrd.img-$kernel"
		done
	else
		chroot "$root" update-initramfs -u -k all
	fi
}
make_initramfs >"$dir/initramfs.log" 2>&1 || { cat "$dir/initramfs.log" >&2; exit 1; }
if grep -E '^W: No |dracut: .*(cannot|not found)' "$dir/initramfs.log" >&2; then # another compression than was asked for, or a part is missing
	exit 1
fi

at=/boot # the folder of kernels, as the boot loader sees it
case $FS in
btrfs) at=/@rootfs/boot ;;
esac
on=root
[ "$STACK" != lvm ] || at='' on=boot
mkdir -p "$root/boot/grub"
chroot "$root" grub-editenv /boot/grub/grubenv create
case $TABLE in
uefi)
	printf 'search.fs_uuid %s root\nset prefix=($root)%s/grub\n' "$(uuid $on)" "$at" >"$root/tmp/load.cfg"
	chroot "$root" grub-mkimage -O x86_64-efi -c /tmp/load.cfg -p "$at/grub" -o /tmp/grubx64.efi \
		part_gpt fat ext2 xfs btrfs search search_fs_uuid normal linux configfile test echo gzio all_video loadenv boot regexp
	cp "$root/tmp/grubx64.efi" "$dir/"
	mkdir -p "$root/boot/grub/x86_64-efi" "$root/boot/efi"
	cp "$root"/usr/lib/grub/x86_64-efi/*.mod "$root"/usr/lib/grub/x86_64-efi/*.lst "$root/boot/grub/x86_64-efi/"
	;;
*)
	kind=part_gpt where='(,gpt2)'
	[ "$TABLE" = gpt ] || kind=part_msdos where='(,msdos1)'
	[ "$STACK" != raid1 ] || kind="$kind diskfilter mdraid1x" where="(mduuid/$(echo "$ARRAY" | tr -d :))"
	mkdir -p "$root/boot/grub/i386-pc"
	cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
	module=$FS
	[ "$FS" != ext4 ] && [ $on = root ] || module=ext2
	chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p "$where$at/grub" biosdisk $kind "$module" search_fs_uuid
	cp "$root/tmp/core.img" "$root/usr/lib/grub/i386-pc/boot.img" "$dir/"
	;;
esac
rm -f "$root"/tmp/*
chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg
# On the server, grub-mkconfig sees the volume, and names it.
[ "$STACK" != lvm ] || sed -i "s,root=UUID=$(uuid root),root=/dev/mapper/ledger-root," "$root/boot/grub/grub.cfg"
[ -z "$DEVICE" ] || sed -i "s,root=UUID=$(uuid root),root=$DEVICE," "$root/boot/grub/grub.cfg"
umount "$root/dev" "$root/proc" "$root/sys"
for mounted in "$root/var" "$root/boot" "$root"; do
	if mountpoint -q "$mounted"; then
		fstrim "$mounted" || true
		umount "$mounted"
	fi
done

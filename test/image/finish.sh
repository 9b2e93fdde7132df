#!/bin/sh
# Runs in private mount and pid namespaces. It finishes what an installer does
# after the packages are there: root password, machine id, boot loader and menu.
# $1: a folder to work in; $2: the root's block device; $3: its filesystem UUID.
set -eu
dir=$1 device=$2 uuid=$3

# A /dev with the root device, its by-uuid name, and nothing else of this machine.
# The device gets a neutral name: GRUB's tools look for the disk behind vda1, which
# does not exist here, and take a loop device for a file in another filesystem.
mkdir -p "$dir/dev" "$dir/chroot"
mount -t tmpfs -o mode=755 dev "$dir/dev"
for n in null zero full random urandom tty; do
	cp -a "/dev/$n" "$dir/dev/$n"
done
cp -a "$device" "$dir/dev/rootfs"
mkdir -p "$dir/dev/disk/by-uuid"
ln -s ../../rootfs "$dir/dev/disk/by-uuid/$uuid"
mount --bind "$dir/dev" /dev

root=$dir/chroot
mount /dev/rootfs "$root"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"

echo 'root:ledger-keeper' | chroot "$root" chpasswd
chroot "$root" systemd-machine-id-setup

mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst \
	"$root"/usr/lib/grub/i386-pc/boot.img "$root/boot/grub/i386-pc/"
chroot "$root" grub-editenv /boot/grub/grubenv create
chroot "$root" grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p '(,msdos1)/boot/grub' \
	biosdisk part_msdos ext2 search_fs_uuid
chroot "$root" update-grub

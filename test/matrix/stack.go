package matrix

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"rehost/test/workshop"
)

// fill makes the volume group or the array of a server in a machine that knows them, on its empty partitions, and then
// copies the filesystems to where their volumes lie: that is known, as their first extents are asked for.
func (c combination) fill(ctx context.Context, work string, disks []string) error {
	number := len(c.parts())
	if c.table == "gpt" {
		number++ // the first one is GRUB's
	}
	switch c.stack {
	case "lvm":
		if err := workshop.Run(ctx, work, volumeGroup(fmt.Sprintf("/dev/nvme1n1p%d", number)), disks...); err != nil {
			return err
		}
		if err := copyInto(ctx, filepath.Join(work, "root.raw"), disks[0], c.rootAt()); err != nil {
			return err
		}
		return copyInto(ctx, filepath.Join(work, "var.raw"), disks[0], c.rootAt()+rootBytes)
	case "raid1":
		if err := workshop.Run(ctx, work, mirror(fmt.Sprintf("/dev/nvme1n1p%d", number), fmt.Sprintf("/dev/nvme2n1p%d", number)), disks...); err != nil {
			return err
		}
		for _, disk := range disks {
			if err := copyInto(ctx, filepath.Join(work, "root.raw"), disk, c.rootAt()); err != nil {
				return err
			}
		}
	}
	return nil
}

// rootAt is the byte at which the root's filesystem begins.
func (c combination) rootAt() int64 {
	parts := c.parts()
	at := parts[len(parts)-1].at
	if c.stack != "" {
		at += mib
	}
	return at
}

func volumeGroup(device string) workshop.Work {
	lvm := func(line string) workshop.Step {
		config := "devices{use_devicesfile=0} activation{udev_sync=0 udev_rules=0 monitoring=0} backup{backup=0 archive=0}"
		return workshop.Step{Args: append(strings.Fields("lvm "+line), "--config", config)}
	}
	return workshop.Work{Drivers: []string{"dm_mod"}, Steps: []workshop.Step{
		lvm("pvcreate --dataalignment 1m " + device), lvm("vgcreate ledger " + device),
		lvm(fmt.Sprintf("lvcreate -y -Wn -Zn -n root -L %dm ledger", rootBytes/mib)),
		lvm(fmt.Sprintf("lvcreate -y -Wn -Zn -n var -L %dm ledger", varBytes/mib)),
		lvm("vgchange -an ledger"),
	}}
}

func mirror(devices ...string) workshop.Work {
	create := fmt.Sprintf("mdadm --create /dev/md0 --run --level=1 --metadata=1.2 --data-offset=1M --bitmap=none --raid-devices=%d --name=root --homehost=matrix --uuid=%s --assume-clean %s",
		len(devices), array, strings.Join(devices, " "))
	return workshop.Work{Drivers: []string{"md_mod", "raid1"}, Steps: []workshop.Step{workshop.Do(create), workshop.Do("mdadm --stop /dev/md0")}}
}

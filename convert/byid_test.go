package convert

import (
	"strings"
	"testing"
)

// TestNamesByID are those that SUSE's installer, Ubuntu's and udev give to devices.
func TestNamesByID(t *testing.T) {
	f := stackedFacts()
	root := &f.Disks[0].Filesystems[2]
	root.Stack[2].UUID = "4yt7Hx-Q2vb-0abc-1def-2ghi-3jkl-Mnopqr"
	for spec, want := range map[string]string{
		"dm-uuid-LVM-Zq1sW2xE3cR4vT5bY6nU7mI8kO9lP0aQ4yt7HxQ2vb0abc1def2ghi3jklMnopqr": "u-root",
		"dm-uuid-LVM-Zq1sW2xE3cR4vT5bY6nU7mI8kO9lP0aQzzzzzzQ2vb0abc1def2ghi3jklMnopqr": "",
		"dm-name-vg--a-lv--root":        "u-root",
		"dm-uuid-CRYPT-LUKS2-0f-secret": "u-secret",
		"scsi-36000c29a1b2c3d4e-part1":  "",
	} {
		if s, found, _ := f.bySpec("/dev/disk/by-id/" + spec); s.UUID != want || found != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", spec, s.UUID, found, want)
		}
	}
}

// TestFstabByID is SUSE's way before version 12: all partitions by the name that the old controller gave to the disk.
func TestFstabByID(t *testing.T) {
	const disk, other = "/dev/disk/by-id/ata-VBOX_HARDDISK_VB1-", "/dev/disk/by-id/ata-VBOX_HARDDISK_VB2-"
	text := disk + "part1 / ext4 acl,user_xattr 1 1\n" + disk + "part2 swap swap defaults 0 0\n" + other + "part1 /data ext4 defaults 0 2\n" +
		"/dev/disk/by-id/dm-uuid-LVM-x /var ext4 defaults 0 2\n"
	disks := []Disk{{Boot: true, Filesystems: append([]Filesystem{{Partition: 3, Type: "LVM2_member"}}, testDisks[0].Filesystems...)}}
	disks[0].Filesystems[1].Mount = "/"
	p := &planner{facts: Facts{Disks: disks, Files: map[string]File{"/etc/fstab": {Data: []byte(text)}}}}
	if err := p.fstab(); err != nil {
		t.Fatal(err)
	}
	want := "UUID=" + rootUUID + " / ext4 acl,user_xattr 1 1\nUUID=" + swapUUID + " swap swap defaults 0 0\n" +
		other + "part1 /data ext4 defaults,nofail,x-systemd.device-timeout=5s 0 2\n/dev/disk/by-id/dm-uuid-LVM-x /var ext4 defaults 0 2\n"
	if got := string(p.edits[0].Data); got != want {
		t.Errorf("got %s", got)
	}
	args := strings.Join(p.commandLine(strings.Fields("root="+disk+"part1 resume="+disk+"part2 a resume="+other+"part1"), ""), " ")
	if !strings.HasPrefix(args, "root=UUID="+rootUUID+" resume=UUID="+swapUUID+" a console=") {
		t.Errorf("got %s", args)
	}
}

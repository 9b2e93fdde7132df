package convert

import "testing"

// TestDevicesThatWillNotBeThere: a boot that waits for one of them ends in the emergency shell, where nobody reaches the server.
func TestDevicesThatWillNotBeThere(t *testing.T) {
	plain := Facts{Disks: testDisks, Files: map[string]File{"/etc/crypttab": {Data: []byte("here UUID=" + swapUUID + " none\ngone /dev/vdq1 none\ndeep /dev/san/lun none\nself /dev/mapper/self none\n")}}}
	stacked := stackedFacts()
	offline, live := plain, plain
	member := func(group string) []Disk {
		return []Disk{testDisks[0], {Volume: "vol-2", Filesystems: []Filesystem{{Type: "LVM2_member", Group: group}}}}
	}
	offline.Disks, live.Disks = member("data-vg"), member("")
	for _, tt := range []struct {
		name  string
		facts Facts
		spec  string
		want  bool
	}{
		{"multipath", plain, "/dev/mapper/mpatha", true},
		{"partition of a multipath device", plain, "/dev/mapper/mpatha-part1", true},
		{"group on a disk that stayed behind", plain, "/dev/san/lun", true},
		{"the same by its mapper name", stacked, "/dev/mapper/san-lun", true},
		{"a volume of a group that is here, such as a thin one", stacked, "/dev/mapper/vg--a-thin", false},
		{"the same by its group", stacked, "/dev/vg-a/thin", false},
		{"group without any plain volume", offline, "/dev/mapper/data--vg-thin", false},
		{"another group than that on the disk", offline, "/dev/mapper/san-lun", true},
		{"group that lacks disks", Facts{Disks: member("-")}, "/dev/mapper/data--vg-thin", true},
		{"a physical volume of a group that is not known", live, "/dev/mapper/san-lun", false},
		{"opened by crypttab", plain, "/dev/mapper/here", false},
		{"opened by crypttab from a lost disk", plain, "/dev/mapper/gone", true},
		{"opened by crypttab from a lost group", plain, "/dev/mapper/deep", true},
		{"opened by crypttab from itself", plain, "/dev/mapper/self", true},
		{"array, and no member", plain, "/dev/md0", true},
		{"array by name, and no member", plain, "/dev/md/data", true},
		{"array, and members of some", stacked, "/dev/md9", false},
		{"hardware RAID", plain, "/dev/cciss/c0d1p1", true},
		{"PowerPath", plain, "/dev/emcpowera1", true},
		{"optical drive", plain, "/dev/sr0", true},
		{"data disk of Azure", plain, "/dev/disk/azure/scsi1/lun0-part1", true},
		{"data disk of Oracle's cloud", live, "/dev/oracleoci/oraclevdb1", true},
		{"made at boot", plain, "/dev/zram0", false},
		{"of a driver that is not known", plain, "/dev/drbd/by-res/x/0", false},
		{"no device", plain, "tmpfs", false},
	} {
		if got := tt.facts.lost(tt.spec); got != tt.want {
			t.Errorf("%s: %s: got %v", tt.name, tt.spec, got)
		}
	}
	if s, ok := (Facts{Disks: append(make([]Disk, 26), testDisks[0])}).byName("/dev/sdaa1"); !ok || s.UUID != rootUUID {
		t.Errorf("the 27th disk: got %+v, %v", s, ok)
	}
}

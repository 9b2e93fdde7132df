package convert

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFstabLines(t *testing.T) {
	disks := []Disk{
		testDisks[0],
		{Volume: "vol-2", Filesystems: []Filesystem{{Partition: 1, Type: "xfs", UUID: "data-uuid", Label: "data"}, {Partition: 5, Type: "ext4", UUID: "five"}}},
	}
	p := &planner{facts: Facts{Disks: disks}}
	const late = ",nofail,x-systemd.device-timeout=5s"
	for _, tt := range []struct{ in, want string }{
		{"# comment\n", "# comment\n"},
		{"\n", "\n"},
		{"/dev/vda1 / ext4 defaults 0 1\n", "UUID=" + rootUUID + " / ext4 defaults 0 1\n"},
		{"/dev/sda1\t/\text3\tdefaults\t0\t1\n", "UUID=" + rootUUID + "\t/\text3\tdefaults\t0\t1\n"},
		{"/dev/xvdb1 /data xfs noatime 0 2", "UUID=data-uuid /data xfs noatime 0 2"},
		{"/dev/nvme1n1p1 /data xfs noatime 0 2\n", "UUID=data-uuid /data xfs noatime 0 2\n"},
		{"/dev/vdb5 /five ext4\n", "UUID=five /five ext4 defaults\n"},
		{"LABEL=data /data xfs defaults 0 2\n", "LABEL=data /data xfs defaults 0 2\n"},
		{"/dev/disk/by-label/data /data xfs defaults 0 2\n", "/dev/disk/by-label/data /data xfs defaults 0 2\n"},
		{"/dev/disk/by-path/pci-0 /data xfs defaults 0 2\n", "/dev/disk/by-path/pci-0 /data xfs defaults" + late + " 0 2\n"},
		{"UUID=gone /old ext4 defaults 0 2\n", "UUID=gone /old ext4 defaults" + late + " 0 2\n"},
		{"UUID=gone /old ext4 defaults" + late + " 0 2\n", "UUID=gone /old ext4 defaults" + late + " 0 2\n"},
		{"/dev/vdc1 /old ext4 noauto 0 2\n", "/dev/vdc1 /old ext4 noauto 0 2\n"},
		{"/dev/vdb1 /data ext4 defaults 0 2\n", "/dev/vdb1 /data ext4 defaults" + late + " 0 2\n"}, // another filesystem than fstab says
		{"/dev/mapper/vg-x /x ext4 defaults 0 2\n", "/dev/mapper/vg-x /x ext4 defaults" + late + " 0 2\n"},
		{"/dev/sr0 /cd iso9660 ro,noauto 0 0\n", "/dev/sr0 /cd iso9660 ro,noauto 0 0\n"},
		{"/dev/zram0 none swap defaults 0 0\n", "/dev/zram0 none swap defaults 0 0\n"},
		{"UUID=gone /iscsi xfs _netdev 0 0\n", "UUID=gone /iscsi xfs _netdev,nofail 0 0\n"},
		{"/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2003-01.org:x-lun-0 /iscsi xfs defaults 0 0\n", "/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2003-01.org:x-lun-0 /iscsi xfs defaults,nofail,_netdev 0 0\n"},
		{"tmpfs /tmp tmpfs defaults 0 0\n", "tmpfs /tmp tmpfs defaults 0 0\n"},
		{"nas:/x /x nfs defaults 0 0\n", "nas:/x /x nfs defaults,nofail,_netdev 0 0\n"},
		{"share /x vboxsf defaults 0 0\n", "# rehost: needs the old hypervisor: share /x vboxsf defaults 0 0\n"},
	} {
		var got strings.Builder
		for _, e := range parseTable(tt.in) {
			got.WriteString(p.fstabLine(e))
		}
		if diff := cmp.Diff(tt.want, got.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func FuzzFstab(f *testing.F) {
	f.Add("/dev/vda1 / ext4 defaults 0 1\n/dev/vda2 none swap sw 0 0\nnas:/x /x nfs defaults\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := &planner{facts: Facts{Disks: testDisks}}
		edit := func(text string) string {
			var out strings.Builder
			for _, e := range parseTable(text) {
				out.WriteString(p.fstabLine(e))
			}
			return out.String()
		}
		once := edit(text)
		if twice := edit(once); twice != once {
			t.Errorf("%q:\nonce:  %q\ntwice: %q", text, once, twice)
		}
		if strings.Count(once, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q: lines were lost: %q", text, once)
		}
		MountPoints(text, testDisks, true)
	})
}

package convert

import (
	"testing"
)

func stackedFacts() Facts {
	lvm := Filesystem{Partition: 2, Type: "ext4", UUID: "u-root", Mount: "/", Stack: []Layer{
		{Kind: LayerMD, Name: "0", UUID: "a:b:c:d"}, {Kind: LayerLUKS, Name: "crypt"}, {Kind: LayerLVM, Group: "vg-a", Name: "lv-root", UUID: "x"},
	}}
	return Facts{Disks: []Disk{{Volume: "vol-1", Boot: true, Filesystems: []Filesystem{
		{Partition: 1, Type: "ext4", UUID: "u-boot", Mount: "/boot"},
		{Partition: 2, Type: "linux_raid_member", UUID: "u-array"},
		lvm,
		{Partition: 3, Type: "ext4", UUID: "u-data", Stack: []Layer{{Kind: LayerMD, Name: "data"}}},
		{Partition: 4, Type: "ext4", UUID: "u-secret", Stack: []Layer{{Kind: LayerLUKS, Name: "secret"}}},
		{Partition: 5, Type: "btrfs", UUID: "u-sub", Mount: "/var", Stack: []Layer{{Kind: LayerSubvolume, Name: "@var"}}},
	}}}}
}

func TestNamesOfStackedFilesystems(t *testing.T) {
	f := stackedFacts()
	for spec, want := range map[string]string{
		"/dev/mapper/vg--a-lv--root": "u-root",
		"/dev/vg-a/lv-root":          "u-root",
		"UUID=u-root":                "u-root",
		"/dev/md/data":               "u-data",
		"/dev/mapper/secret":         "u-secret",
		"/dev/sda2":                  "u-array", // the partition, not what is on top of it
		"/dev/sda5":                  "u-sub",   // a subvolume is on its partition
		"/dev/md0":                   "",        // holds LUKS here, no filesystem
		"/dev/vg-b/lv-root":          "",
		"/dev/mapper/vg-a-lv-root":   "",
	} {
		if s, found, _ := f.bySpec(spec); s.UUID != want || found != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", spec, s.UUID, found, want)
		}
	}
}

func TestNumberedArrayHasTwoNames(t *testing.T) {
	s := Filesystem{UUID: "u", Stack: []Layer{{Kind: LayerMD, Name: "127"}}}
	for _, name := range []string{"/dev/md127", "/dev/md/127"} {
		if !s.isDevice(name) {
			t.Errorf("%s does not mean array 127", name)
		}
	}
}

func TestStackedNamesStayInFstab(t *testing.T) {
	p := &planner{facts: stackedFacts()}
	for _, line := range []string{
		"/dev/mapper/vg--a-lv--root / ext4 defaults 0 1\n", "/dev/vg-a/lv-root / ext4 defaults 0 1\n", "/dev/md/data /data ext4 defaults 0 2\n",
	} {
		if got := p.fstabLine(parseTable(line)[0]); got != line {
			t.Errorf("%q became %q", line, got)
		}
	}
}

func TestFilesystemThatHoldsAPath(t *testing.T) {
	f := stackedFacts()
	for path, want := range map[string]string{"/": "u-root", "/etc/fstab": "u-root", "/boot": "u-boot", "/boot/grub": "u-boot", "/bootx": "u-root", "/var/lib": "u-sub"} {
		if s, ok := f.Holds(path); !ok || s.UUID != want {
			t.Errorf("%s: got %q, %v, want %q", path, s.UUID, ok, want)
		}
	}
	if _, ok := (Facts{}).Holds("/"); ok {
		t.Error("nothing holds a path when nothing is mounted")
	}
}

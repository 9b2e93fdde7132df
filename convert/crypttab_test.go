package convert

import (
	"testing"

	"rehost/protocol"
)

func TestCrypttab(t *testing.T) {
	disks := []Disk{{Boot: true, Filesystems: []Filesystem{
		{Partition: 1, Type: "ext4", UUID: "aaaa-1"}, {Partition: 2, Type: "crypto_LUKS", UUID: "bbbb-2"}, {Partition: 3, PartUUID: "cccc-03"},
	}}}
	for line, want := range map[string]string{
		"data /dev/sda2 none luks\n":                         "data UUID=bbbb-2 none luks\n",
		"data UUID=bbbb-2 none luks,discard\n":               "data UUID=bbbb-2 none luks,discard\n",
		"swap /dev/vda3 /dev/urandom swap\n":                 "swap PARTUUID=cccc-03 /dev/urandom swap\n",
		"old /dev/sdc1\n":                                    "old /dev/sdc1 none luks,nofail\n",
		"old UUID=dddd-4 none luks,nofail\n":                 "old UUID=dddd-4 none luks,nofail\n",
		"id /dev/disk/by-id/ata-VBOX-part2 none luks\n":      "id /dev/disk/by-id/ata-VBOX-part2 none luks,nofail\n",
		"# data /dev/sda2 none luks\n":                       "# data /dev/sda2 none luks\n",
		"\n":                                                 "\n",
		"lv /dev/mapper/vg-data /etc/key luks\n":             "lv /dev/mapper/vg-data /etc/key luks,nofail\n",
		"broken\n":                                           "broken\n",
		"file /var/container.img none tcrypt\n":              "file /var/container.img none tcrypt\n",
		"last /dev/sda2 /etc/keys/last luks,timeout=30\n":    "last UUID=bbbb-2 /etc/keys/last luks,timeout=30\n",
		"tabs\t/dev/xvda2\tnone\tluks,initramfs,discard\n":   "tabs UUID=bbbb-2 none luks,initramfs,discard\n",
		"gone /dev/sdz9 none luks,x-systemd.makefs,noauto\n": "gone /dev/sdz9 none luks,x-systemd.makefs,noauto,nofail\n",
	} {
		f := Facts{Disks: disks, Files: map[string]File{"/etc/crypttab": {Data: []byte(line), Sum: sum([]byte(line))}}}
		p := &planner{facts: f, set: protocol.ConversionSettings{}}
		if err := p.crypttab(); err != nil {
			t.Fatal(err)
		}
		got := line
		if len(p.edits) > 0 {
			got = string(p.edits[0].Data)
		}
		if got != want {
			t.Errorf("%q became %q, want %q", line, got, want)
		}
	}
}

func TestResume(t *testing.T) {
	f := stackedFacts()
	f.Disks[0].Filesystems = append(f.Disks[0].Filesystems, Filesystem{Partition: 6, Type: "swap", UUID: "u-swap"},
		Filesystem{Partition: 2, Type: "swap", UUID: "u-volume", Stack: []Layer{{Kind: LayerLVM, Group: "vg-a", Name: "swap"}}})
	p := &planner{facts: f}
	for value, want := range map[string]string{
		"/dev/sda6": "UUID=u-swap", "UUID=u-swap": "UUID=u-swap", `"/dev/vda6"`: "UUID=u-swap", "/dev/sdb1": "none", "UUID=gone": "none", "/dev/sda1": "none", "none": "none", "auto": "auto",
		"/dev/mapper/vg--a-swap": "/dev/mapper/vg--a-swap", "/dev/mapper/san-swap": "none", "/dev/disk/by-id/ata-X-part2": "none",
	} {
		if got := p.fixResume("RESUME=" + value + "\n"); got != "RESUME="+want+"\n" {
			t.Errorf("%s: got %q, want %s", value, got, want)
		}
	}
}

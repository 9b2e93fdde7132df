package convert

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func codes(findings []protocol.Finding) (out []string) {
	for _, f := range findings {
		out = append(out, string(f.Severity)+" "+string(f.Code)+" "+f.Subject)
	}
	return out
}

func TestCheckStack(t *testing.T) {
	disk := func(s ...Filesystem) []Disk { return []Disk{{Volume: "/dev/sda", Boot: true, Filesystems: s}} }
	thin := []Layer{{Kind: LayerThin, Group: "vg"}, {Kind: LayerLVM, Group: "vg", Name: "root"}}
	luks := []Layer{{Kind: LayerLUKS, Name: "crypt"}}
	for _, tt := range []struct {
		name  string
		disks []Disk
		want  []string
	}{
		{"plain", disk(Filesystem{Type: "ext4", Mount: "/"}), nil},
		{"thin root", disk(Filesystem{Type: "xfs", Mount: "/", Stack: thin}), []string{"critical lvm-thin /"}},
		{"encrypted var", disk(Filesystem{Type: "xfs", Mount: "/"}, Filesystem{Type: "xfs", Mount: "/var", Stack: luks}), []string{"warning encrypted /var"}},
		{"encrypted data is none of ours", disk(Filesystem{Type: "xfs", Mount: "/"}, Filesystem{Type: "xfs", Mount: "/srv", Stack: luks}), nil},
		{"f2fs", disk(Filesystem{Type: "f2fs", Mount: "/"}), []string{"critical root-filesystem /"}},
		{"root elsewhere", disk(Filesystem{Type: "ext4", Mount: "/data"}), []string{"critical root-filesystem /"}},
	} {
		if diff := cmp.Diff(tt.want, codes(CheckStack(tt.disks))); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestFstabFindings(t *testing.T) {
	text := "/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /data ext4 defaults 0 2\nnas:/x /nas nfs defaults 0 0\nshare /s vboxsf defaults 0 0\n" +
		"/dev/sda2 none swap sw 0 0\nUUID=" + rootUUID + " /again ext4 defaults 0 0\nUUID=00000000-0000-0000-0000-000000000000 /gone ext4 nofail 0 2\ntmpfs /tmp tmpfs defaults 0 0\n"
	p := &planner{facts: Facts{Disks: testDisks, Files: map[string]File{"/etc/fstab": {Data: []byte(text)}}}}
	if err := p.fstab(); err != nil {
		t.Fatal(err)
	}
	want := []string{"info fstab-device-name /", "warning fstab-missing /data", "warning fstab-network /nas", "warning fstab-share /s", "info fstab-device-name swap"}
	if diff := cmp.Diff(want, codes(p.findings)); diff != "" {
		t.Error(diff)
	}
}

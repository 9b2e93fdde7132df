package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVolumesAreFoundBySerial(t *testing.T) {
	sys := t.TempDir()
	write(t, filepath.Join(sys, "block/nvme0n1/device/serial"), "vol0aaaaaaaaaaaaaaaa\n")
	write(t, filepath.Join(sys, "block/nvme1n1/device/serial"), "vol0123456789abcdef0   \n")
	write(t, filepath.Join(sys, "block/sda/device/serial"), "vol0bbb\n")
	want := map[string]string{"vol0aaaaaaaaaaaaaaaa": "nvme0n1", "vol0123456789abcdef0": "nvme1n1"}
	if diff := cmp.Diff(want, volumes(sys)); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestModuleList(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "list"), "nvme_core nvme_core.ko\nnvme nvme.ko nvme_core t10_pi\n")
	m, err := readModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"nvme_core": {"nvme_core.ko"}, "nvme": {"nvme.ko", "nvme_core", "t10_pi"}}
	if diff := cmp.Diff(want, m.known); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := m.load("ext4"); err != nil {
		t.Errorf("a driver that is not in the list is built in; got %v", err)
	}
	if err := m.load("nvme"); err == nil {
		t.Error("a module whose file is missing was loaded")
	}
	if _, err := readModules(t.TempDir()); err == nil {
		t.Error("got no error without a list")
	}
}

func TestFailureIsReported(t *testing.T) {
	r := failed("job-1", os.ErrDeadlineExceeded)
	if r.OK || r.Job != "job-1" || r.Problem == nil || r.Problem.Hint == "" || r.Problem.Code == "" {
		t.Errorf("got %+v", r)
	}
}

func TestOnlyTheDriversOfTheMachineAreLoaded(t *testing.T) {
	for name, c := range map[string]struct{ aliases, want []string }{
		"EC2": {
			[]string{"pci:v00001D0Fd00008061sv00001D0Fsd00008061bc01sc08i02", "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00", "pci:v00008086d00001237sv00000000sd00000000bc06sc00i00"},
			[]string{"ena"},
		},
		"local cloud": {
			[]string{"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"},
			[]string{"e1000e"},
		},
		"virtio":  {[]string{"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"}, []string{"virtio_pci", "virtio_net"}},
		"nothing": {nil, nil},
	} {
		sys := t.TempDir()
		for i, a := range c.aliases {
			write(t, filepath.Join(sys, "bus/pci/devices", string(rune('a'+i)), "modalias"), a+"\n")
		}
		if diff := cmp.Diff(c.want, networkDrivers(sys)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

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

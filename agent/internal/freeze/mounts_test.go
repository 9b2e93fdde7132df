package freeze_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/agent/internal/freeze"
	"rehost/agent/internal/host"
	"rehost/internal/blockdev"
	"rehost/internal/command"
)

// disk makes a loop device with a filesystem of a kind in dir.
func disk(t *testing.T, dir, kind string, sizeBytes int64) *blockdev.Loop {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(dir, kind+".img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Run(t.Context(), "mkfs."+kind, "-q", path); err != nil {
		t.Skipf("no %s here: %v", kind, err)
	}
	return loop(t, blockdev.LoopOptions{File: path})
}

// mountAt mounts on a new folder until the test ends.
func mountAt(t *testing.T, source, kind string, flags uintptr, data string) string {
	t.Helper()
	dir := t.TempDir()
	mountOn(t, source, dir, kind, flags, data)
	return dir
}

func mountOn(t *testing.T, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		if errors.Is(err, unix.ENODEV) {
			t.Skipf("this kernel has no %s", kind)
		}
		t.Fatalf("mount %s on %s: %v", source, dir, err)
	}
	t.Cleanup(func() {
		var err error
		for range 100 { // a write that waited may still be on its way
			if err = unix.Unmount(dir, 0); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("unmount %s: %v", dir, err)
	})
}

func filesystems(t *testing.T, disks ...string) []host.Filesystem {
	t.Helper()
	all, err := host.Filesystems(disks)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantStill freezes all filesystems of a disk, and holds that no write to the folders comes through before the thaw.
func wantStill(t *testing.T, device string, folders ...string) freeze.Result {
	t.Helper()
	h := startHelper(t)
	if err := h.Prepare(t.Context(), mountsOf(t, device)); err != nil {
		t.Fatal(err)
	}
	r, err := h.Freeze(t.Context(), freeze.MaxCap)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, len(folders))
	for _, dir := range folders {
		go func() { written <- os.WriteFile(filepath.Join(dir, "written"), []byte("x"), 0o600) }()
	}
	early := 0
	select {
	case err := <-written:
		early = 1
		t.Errorf("a write came through although its filesystem is frozen: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if _, intact, err := h.Thaw(); err != nil || !intact {
		t.Errorf("thaw: intact %v, %v", intact, err)
	}
	for range len(folders) - early {
		select {
		case err := <-written:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("still frozen")
		}
	}
	return r
}

func TestBtrfsIsFrozenOnceForAllItsSubvolumes(t *testing.T) {
	d := disk(t, t.TempDir(), "btrfs", 256<<20)
	top := mountAt(t, d.Path, "btrfs", 0, "")
	for _, name := range []string{"@", "@home"} {
		if _, err := command.Run(t.Context(), "btrfs", "subvolume", "create", filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, home := mountAt(t, d.Path, "btrfs", 0, "subvol=@"), mountAt(t, d.Path, "btrfs", 0, "subvol=@home")
	all := filesystems(t, d.Path)
	if len(all) != 1 || all[0].Type != "btrfs" {
		t.Fatalf("got %+v, want one filesystem", all)
	}
	if r := wantStill(t, d.Path, top, root, home); len(r.Frozen) != 1 || len(r.NotFreezable) != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAFilesystemInAFileOnBtrfsIsFrozenFirst(t *testing.T) {
	d := disk(t, t.TempDir(), "btrfs", 256<<20)
	outer := mountAt(t, d.Path, "btrfs", 0, "")
	inner := mountAt(t, disk(t, outer, "ext4", 32<<20).Path, "ext4", 0, "")
	if got := mountsOf(t, d.Path); !slices.Equal(got, []string{inner, outer}) {
		t.Fatalf("got %v, want %s before %s", got, inner, outer)
	}
	if err := os.WriteFile(filepath.Join(inner, "data"), make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	wantStill(t, d.Path, inner, outer)
}

// An overlay has no disk of its own: it stands still because the filesystem of its upper folder does.
func TestAnOverlayStandsStillWithItsUpperFilesystem(t *testing.T) {
	d := disk(t, t.TempDir(), "ext4", 64<<20)
	base := mountAt(t, d.Path, "ext4", 0, "")
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	overlay := mountAt(t, "overlay", "overlay", 0,
		"lowerdir="+filepath.Join(base, "lower")+",upperdir="+filepath.Join(base, "upper")+",workdir="+filepath.Join(base, "work"))
	if got := mountsOf(t, d.Path); !slices.Equal(got, []string{base}) {
		t.Fatalf("got %v, want %s alone", got, base)
	}
	if r := wantStill(t, d.Path, overlay); !slices.Equal(r.Frozen, []string{base}) {
		t.Errorf("got %+v", r)
	}
}

// Nobody writes to a filesystem that is mounted read-only, and freezing it is no error and no lower grade.
func TestAReadOnlyFilesystemIsNoObstacle(t *testing.T) {
	d := disk(t, t.TempDir(), "ext4", 64<<20)
	dir := mountAt(t, d.Path, "ext4", unix.MS_RDONLY, "")
	all := filesystems(t, d.Path)
	if len(all) != 1 || !all[0].ReadOnly {
		t.Fatalf("got %+v", all)
	}
	if r := wantStill(t, d.Path); !slices.Equal(r.Frozen, []string{dir}) || len(r.NotFreezable) != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestABindMountIsTheSameFilesystem(t *testing.T) {
	d := disk(t, t.TempDir(), "ext4", 64<<20)
	whole := mountAt(t, d.Path, "ext4", 0, "")
	folder := filepath.Join(whole, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	bound := mountAt(t, folder, "", unix.MS_BIND, "")
	readOnly := mountAt(t, folder, "", unix.MS_BIND, "")
	if err := unix.Mount("", readOnly, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if all := filesystems(t, d.Path); len(all) != 1 || all[0].Mount != whole || all[0].ReadOnly {
		t.Fatalf("got %+v, want %s alone", all, whole)
	}
	wantStill(t, d.Path, whole, bound)
}

// Only a part of the filesystem can be reached: it is frozen through that.
func TestAFilesystemOfWhichOnlyAFolderIsMounted(t *testing.T) {
	d := disk(t, t.TempDir(), "ext4", 64<<20)
	whole := t.TempDir()
	if err := unix.Mount(d.Path, whole, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	err := os.Mkdir(filepath.Join(whole, "folder"), 0o700)
	bound := mountAt(t, filepath.Join(whole, "folder"), "", unix.MS_BIND, "")
	if err := errors.Join(err, unix.Unmount(whole, 0)); err != nil {
		t.Fatal(err)
	}
	if got := mountsOf(t, d.Path); !slices.Equal(got, []string{bound}) {
		t.Fatalf("got %v, want %s", got, bound)
	}
	wantStill(t, d.Path, bound)
}

// What lies over a mount point is another filesystem, perhaps a stranger's: it must not be frozen in the place of ours.
func TestAFilesystemThatIsCoveredIsNotTakenForTheOneAbove(t *testing.T) {
	for _, kind := range []string{"btrfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			d, stranger := disk(t, t.TempDir(), kind, 256<<20), disk(t, t.TempDir(), kind, 256<<20)
			dir := mountAt(t, d.Path, kind, 0, "")
			mountOn(t, stranger.Path, dir, kind, 0, "")
			if got := mountsOf(t, d.Path); len(got) != 0 {
				t.Errorf("got %v for a filesystem that cannot be reached", got)
			}
			elsewhere := mountAt(t, d.Path, kind, 0, "")
			if got := mountsOf(t, d.Path); !slices.Equal(got, []string{elsewhere}) {
				t.Errorf("got %v, want %s", got, elsewhere)
			}
		})
	}
}

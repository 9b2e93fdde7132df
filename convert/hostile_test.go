package convert

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rehost/protocol"
)

// TestHostileGuestReachesNothingOutside converts guests made to lead us out of
// their root. Whatever happens inside, the host's files stay as they are.
func TestHostileGuestReachesNothingOutside(t *testing.T) {
	const up = "../../../../../../../../../../../.."
	for name, change := range map[string]func(files tree, host string){
		"etc is the root": func(f tree, _ string) {
			moved := tree{}
			for path, text := range f {
				if rest, ok := cutPrefix(path, "etc/"); ok {
					path = rest
				}
				moved[path] = text
			}
			clear(f)
			maps.Copy(f, moved)
			f["etc"] = "-> /"
		},
		"fstab leads out by dots": func(f tree, host string) { f["etc/fstab"] = "-> " + up + host + "/fstab" },
		"fstab leads out":         func(f tree, host string) { f["etc/fstab"] = "-> " + host + "/fstab" },
		"etc leads out": func(f tree, host string) {
			for path := range f {
				if _, ok := cutPrefix(path, "etc/"); ok {
					delete(f, path)
				}
			}
			f["etc"] = "-> " + up + host
		},
		"record leads out": func(f tree, host string) { f["var/lib/rehost/conversion"] = "-> " + up + host },
		"state leads out": func(f tree, host string) {
			delete(f, "var/lib/rehost/agent/identity.json")
			f["var/lib/rehost"] = "-> " + host
		},
		"initramfs leads out": func(f tree, host string) { f["boot/initrd.img-"+testKernel] = "-> " + up + host + "/initrd" },
		"ESP leads out":       func(f tree, host string) { f["boot/efi"] = "-> " + up + host },
		"entries lead out":    func(f tree, host string) { f["boot/loader/entries"] = "-> " + host },
		"grubenv leads out":   func(f tree, host string) { f["boot/grub/grubenv"] = "-> " + up + host + "/fstab" },
		"loader leads out": func(f tree, host string) {
			f["boot/efi/EFI/debian/grubx64.efi"] = "-> " + up + host + "/secret"
			f["boot/efi/EFI/debian/grub.cfg"] = "-> " + host + "/fstab"
		},
		"menu names files outside": func(f tree, host string) {
			f["boot/grub/grub.cfg"] = "menuentry x {\n\tlinux " + up + host + "/secret\n\tinitrd " + up + host + "/initrd /../.." + host + "/initrd\n}\n"
		},
		"module leads out": func(f tree, host string) {
			f["usr/lib/modules/"+testKernel+"/kernel/ena.ko"] = "-> " + up + host + "/secret"
		},
		"index names a file outside": func(f tree, host string) {
			f["usr/lib/modules/"+testKernel+"/modules.dep"] = "kernel/nvme.ko: " + up + host + "/secret\n" + up + host + "/secret:\n/ena.ko:\n"
		},
		"config is a circle": func(f tree, _ string) { f["boot/grub/grub.cfg"] = "-> grub.cfg" },
		"record names files outside": func(f tree, host string) {
			f["var/lib/rehost/conversion/record.json"] = `{"version":1,"originals":[{"path":"` + up + host + `/fstab","action":"edit","kept":"` + up + host + `/secret"}]}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			tree{"fstab": debian(t)["etc/fstab"], "initrd": initrd(t, tree{"init": "x"}), "secret": "secret"}.write(t, host)
			before := snapshot(t, host)
			files := debian(t)
			change(files, host)
			_, root := newGuest(t, files)
			for range 2 {
				facts, err := Inspect(root, testDisks)
				if err == nil {
					var plan Plan
					if plan, err = MakePlan(facts, protocol.ConversionSettings{}); err == nil {
						_, err = Apply(root, plan)
					}
				}
				t.Logf("conversion: %v; undo: %v", err, Undo(root))
			}
			if diff := cmp.Diff(before, snapshot(t, host)); diff != "" {
				t.Errorf("the host changed:\n%s", diff)
			}
			for _, data := range facts(t, root) {
				if string(data.Data) == "secret" {
					t.Error("a file of the host was read")
				}
			}
		})
	}
}

func facts(t *testing.T, root *Root) map[string]File {
	t.Helper()
	f, err := Inspect(root, testDisks)
	if err != nil {
		t.Logf("inspect: %v", err)
	}
	for _, k := range f.Kernels {
		if k.Initrd != nil {
			for _, m := range k.Initrd.Modules {
				f.Files[m.Name] = File{Data: m.Data}
			}
		}
	}
	return f.Files
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

// TestPipeInsteadOfFileDoesNotBlock: to open a pipe for reading waits for a writer, for ever.
func TestPipeInsteadOfFileDoesNotBlock(t *testing.T) {
	files := debian(t)
	delete(files, "etc/default/grub")
	delete(files, "boot/initrd.img-"+testKernel)
	dir, root := newGuest(t, files)
	if err := os.MkdirAll(filepath.Join(dir, "etc/default"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/default/grub", "boot/initrd.img-" + testKernel} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		f, err := Inspect(root, testDisks)
		if err == nil {
			_, err = MakePlan(f, protocol.ConversionSettings{})
		}
		done <- err
	}()
	select {
	case err := <-done:
		var p *protocol.Problem
		if !errors.As(err, &p) {
			t.Errorf("got %v, want a problem: there is no initramfs", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the inspection hangs")
	}
}

func TestNoSpaceIsRefusedBeforeAnythingChanges(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	f, err := Inspect(root, testDisks)
	if err != nil {
		t.Fatal(err)
	}
	f.Spaces[0].Free = 1 << 20
	var p *protocol.Problem
	if _, err := MakePlan(f, protocol.ConversionSettings{}); !errors.As(err, &p) {
		t.Errorf("got %v, want a problem", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "var/lib/rehost/conversion")); err == nil {
		t.Error("a record was made")
	}
}

// TestNothingOfAGuestIsReadWithoutBound puts what cannot be read in reasonable time, or not into memory, where a
// conversion looks. Each must end it, or be left out, at once.
func TestNothingOfAGuestIsReadWithoutBound(t *testing.T) {
	sparse := func(path string, size int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(dir, path), os.O_CREATE|os.O_WRONLY, 0o644)
			if err == nil {
				err = errors.Join(f.Truncate(size), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	pipe := func(path string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, path)
			if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), unix.Mkfifo(path, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(t *testing.T, dir string){
		"a terabyte of grub.cfg":       sparse("boot/grub/grub.cfg", 1<<40),
		"a terabyte of initramfs":      sparse("boot/initrd.img-"+testKernel, 1<<40),
		"a terabyte of a udev rule":    sparse("etc/udev/rules.d/70-persistent-net.rules", 1<<40),
		"a terabyte of fstab":          sparse("etc/fstab", 1<<40),
		"a pipe instead of rules":      pipe("etc/udev/rules.d"),
		"a pipe instead of netplan":    pipe("etc/netplan"),
		"a pipe instead of modules":    pipe("usr/lib/modules"),
		"a pipe instead of the record": pipe("var/lib/rehost/conversion"),
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newGuest(t, debian(t))
			if err := os.MkdirAll(filepath.Join(dir, "etc/udev/rules.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			change(t, dir)
			done := make(chan error, 1)
			go func() {
				f, err := Inspect(root, testDisks)
				if err == nil {
					var plan Plan
					if plan, err = MakePlan(f, protocol.ConversionSettings{}); err == nil {
						_, err = Apply(root, plan)
					}
				}
				done <- err
			}()
			select {
			case err := <-done:
				t.Log(err)
			case <-time.After(time.Minute):
				t.Fatal("the conversion hangs")
			}
		})
	}
}

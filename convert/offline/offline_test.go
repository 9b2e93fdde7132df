package offline_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/convert/offline"
	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/workshop"
)

// guest is the least that a conversion takes for a server.
var guest = map[string]string{
	"etc/os-release":                  "PRETTY_NAME=\"Test\"\n",
	"boot/grub/grub.cfg":              "menuentry 'x' {\n\tlinux /boot/vmlinuz-6.1 root=/dev/vda ro quiet\n}\n",
	"boot/vmlinuz-6.1":                "x",
	"lib/modules/6.1/modules.dep":     "kernel/ena.ko:\n",
	"lib/modules/6.1/modules.builtin": "kernel/nvme.ko\nkernel/dm-mod.ko\nkernel/dm-crypt.ko\nkernel/md-mod.ko\nkernel/raid1.ko\nkernel/ext4.ko\n",
	"etc/network/interfaces":          "auto eth0\n",
	"sbin/ifup":                       "x",
	"sbin/dhclient":                   "x",
	"usr/share/x":                     "x",
	"boot/efi/x":                      "below the EFI system partition, if there is one",
}

// filesystem makes an image file with an ext4 of the guest and a fstab.
func filesystem(t *testing.T, fstab string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range guest {
		write(name, text)
	}
	write("etc/fstab", fstab)
	image := filepath.Join(t.TempDir(), "root.raw")
	if _, err := command.Run(t.Context(), "mke2fs", "-q", "-t", "ext4", "-d", dir, image, "32M"); err != nil {
		t.Fatal(err)
	}
	return image
}

func empty(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

func buildAppliance(t *testing.T) string {
	t.Helper()
	path, err := workshop.Appliance(t.Context(), t.TempDir(), "rehost/cmd/rehost-convert")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a job and wants a report.
func run(t *testing.T, job offline.Job) protocol.ConversionReport {
	t.Helper()
	start := time.Now()
	job.Progress = func(s string) { t.Log(s) }
	r, err := offline.Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: ok %v, %d changes, %.1f s, %.1f s by the machine's clock", job.Action, r.OK, len(r.Changes), time.Since(start).Seconds(), r.Seconds)
	for _, f := range r.Findings {
		t.Logf("%s %s: %s", f.Severity, f.Code, f.Message)
	}
	return r
}

func has(r protocol.ConversionReport, code protocol.FindingCode, severity protocol.Severity) bool {
	return slices.ContainsFunc(r.Findings, func(f protocol.Finding) bool { return f.Code == code && f.Severity == severity })
}

// long skips what would make "make test" too long: "make storage" runs it, a machine for each.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("REHOST_STORAGE") == "" {
		t.Skip("REHOST_STORAGE is not set")
	}
}

const passphrase = "correct horse battery staple"

// TestStackedStorage converts roots on LVM over two disks, on half a RAID1, and on LVM in LUKS, which are made in
// a machine of the same kernel: the one that runs this test may know none of them.
func TestStackedStorage(t *testing.T) {
	t.Parallel() // a machine has one processor
	image := buildAppliance(t)
	source := filesystem(t, "/dev/mapper/ledger--a-root / ext4 defaults 0 1\n")
	const size = 96 << 20
	lvmA, lvmB, mirrorA, mirrorB, secret := empty(t, "a", size), empty(t, "b", size), empty(t, "c", size), empty(t, "d", size), empty(t, "e", size)
	blank := empty(t, "f", size)
	lvm := func(line string) workshop.Step {
		config := "devices{use_devicesfile=0} activation{udev_sync=0 udev_rules=0 monitoring=0} backup{backup=0 archive=0}"
		return workshop.Step{Args: append(strings.Fields("lvm "+line), "--config", config)}
	}
	work := workshop.Work{
		Drivers: []string{"dm_mod", "dm_crypt", "md_mod", "raid1", "algif_skcipher", "algif_hash", "aes_generic", "xts", "ecb", "sha256_generic"},
		Steps: []workshop.Step{
			lvm("pvcreate /dev/nvme2n1 /dev/nvme3n1"), lvm("vgcreate ledger-a /dev/nvme2n1 /dev/nvme3n1"),
			lvm("lvcreate -y -Wn -Zn -n fast -i 2 -L 16m ledger-a"), lvm("lvcreate -y -Wn -Zn -n root -L 120m ledger-a"),
			workshop.Do("copy /dev/nvme1n1 /dev/mapper/ledger--a-root"),
			lvm("vgchange -an ledger-a"),
			workshop.Do("mdadm --create /dev/md0 --run --level=1 --metadata=1.0 --raid-devices=2 --name=root --homehost=ledger --assume-clean /dev/nvme4n1 /dev/nvme5n1"),
			workshop.Do("copy /dev/nvme1n1 /dev/md0"), workshop.Do("mdadm --stop /dev/md0"),
			{Args: strings.Fields("cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file=- /dev/nvme6n1"), Stdin: passphrase},
			{Args: strings.Fields("cryptsetup open --key-file=- /dev/nvme6n1 made"), Stdin: passphrase},
			lvm("pvcreate /dev/mapper/made"), lvm("vgcreate vault /dev/mapper/made"), lvm("lvcreate -y -Wn -Zn -n root -L 40m vault"),
			workshop.Do("copy /dev/nvme1n1 /dev/mapper/vault-root"), lvm("vgchange -an vault"), workshop.Do("cryptsetup close made"),
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := workshop.Run(ctx, t.TempDir(), work, source, lvmA, lvmB, mirrorA, mirrorB, secret); err != nil {
		t.Fatal(err)
	}
	apply := func(set protocol.ConversionSettings, disks ...string) protocol.ConversionReport {
		return run(t, offline.Job{Appliance: image, Disks: disks, Action: protocol.ActionApply, Settings: set})
	}
	t.Run("LVM over two disks", func(t *testing.T) {
		r := apply(protocol.ConversionSettings{}, lvmA, lvmB, blank)
		if !r.OK || len(r.Changes) == 0 || r.Guest.Kernel != "6.1" {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
		if !slices.Contains(r.Written, "disk0") || slices.Contains(r.Written, "disk2") {
			t.Errorf("got %v as written, want the volume group's, and not the third disk", r.Written)
		}
	})
	t.Run("the second time", func(t *testing.T) {
		long(t)
		if r := apply(protocol.ConversionSettings{}, lvmA, lvmB); !r.OK || len(r.Changes) != 0 {
			t.Errorf("the second time: %+v, problem %+v", r.Changes, r.Problem)
		}
	})
	t.Run("one disk of two", func(t *testing.T) {
		long(t)
		if r := apply(protocol.ConversionSettings{}, lvmA); r.OK || !has(r, protocol.FindingLVMIncomplete, protocol.SeverityCritical) {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
	t.Run("half a RAID1", func(t *testing.T) {
		r := apply(protocol.ConversionSettings{}, mirrorA)
		if !r.OK || len(r.Changes) == 0 || !has(r, protocol.FindingDegraded, protocol.SeverityWarning) {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
	t.Run("RAID1 with one that is behind", func(t *testing.T) {
		long(t)
		if r := apply(protocol.ConversionSettings{}, mirrorA, mirrorB); !r.OK || len(r.Changes) != 0 || !has(r, protocol.FindingDegraded, protocol.SeverityWarning) {
			t.Errorf("the newer half does not count: %+v, problem %+v", r, r.Problem)
		}
	})
	t.Run("LUKS without a passphrase", func(t *testing.T) {
		if r := apply(protocol.ConversionSettings{}, secret); r.OK || !has(r, protocol.FindingEncrypted, protocol.SeverityCritical) {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("LUKS with a wrong one", func(t *testing.T) {
		long(t)
		r := apply(protocol.ConversionSettings{Passphrase: "wrong-one"}, secret)
		if r.OK || !has(r, protocol.FindingEncrypted, protocol.SeverityCritical) || strings.Contains(fmt.Sprintf("%+v", r), "wrong-one") {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("LVM in LUKS", func(t *testing.T) {
		if r := apply(protocol.ConversionSettings{Passphrase: passphrase}, secret); !r.OK || len(r.Changes) == 0 {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
}

// TestKilledConversionGoesOn kills the machine at random moments, then converts: the outcome is the same as without.
func TestKilledConversionGoesOn(t *testing.T) {
	t.Parallel()
	appliance := buildAppliance(t)
	disk := filesystem(t, "/dev/vda / ext4 defaults 0 1\n")
	job := offline.Job{Appliance: appliance, Disks: []string{disk}, Action: protocol.ActionPlan}
	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	plan := run(t, job)
	whole := time.Since(start)
	if after, err := os.ReadFile(disk); err != nil || !slices.Equal(before, after) {
		t.Errorf("a plan changed the image, or %v", err)
	}
	job.Action = protocol.ActionApply
	killed := 0
	for try := 0; killed < 2 && try < 12; try++ {
		// What is before is the machine's own start: the files change in the moments after it.
		ctx, cancel := context.WithCancel(t.Context())
		job.Progress = func(line string) {
			if strings.HasSuffix(line, "changes to make") {
				time.AfterFunc(rand.N(whole/30), cancel)
			}
		}
		r, err := offline.Run(ctx, job)
		cancel()
		t.Logf("killed: %v, or done: %v", err, r.OK)
		if err != nil {
			killed++
		}
	}
	if killed == 0 {
		t.Error("no machine was killed in time")
	}
	last := run(t, job)
	again := run(t, job)
	if !last.OK || len(last.Changes) > len(plan.Changes) || !again.OK || len(again.Changes) != 0 {
		t.Errorf("got %+v, then %+v", last, again)
	}
	if _, err := command.Run(t.Context(), "e2fsck", "-fn", disk); err != nil {
		t.Error(err)
	}
	job.Action = protocol.ActionUndo
	if r := run(t, job); !r.OK {
		t.Errorf("undo: %+v", r.Problem)
	}
	job.Action = protocol.ActionPlan
	if r := run(t, job); len(r.Changes) != len(plan.Changes) {
		t.Errorf("after the undo %d changes are planned, before it was %d", len(r.Changes), len(plan.Changes))
	}
}

package convert

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// withSystemdBoot is a Debian that boots by systemd-boot, with these entries.
func withSystemdBoot(t *testing.T, loaderConf string, entries map[string]string) tree {
	t.Helper()
	files := debian(t)
	delete(files, "boot/grub/grub.cfg")
	files["efi/EFI/systemd/systemd-bootx64.efi"] = "#### LoaderInfo: systemd-boot 255.4 ####"
	files["efi/loader/loader.conf"] = loaderConf
	for name, text := range entries {
		files["efi/loader/entries/"+name] = text
	}
	files["efi/m/"+testKernel+"/linux"] = fakeImage(testKernel)
	files["efi/m/"+testKernel+"/initrd.img-"+testKernel] = files["boot/initrd.img-"+testKernel]
	delete(files, "boot/initrd.img-"+testKernel)
	return files
}

// TestOrderOfSystemdBoot is by tries, key, machine, version and id, as the Boot Loader Specification has it.
func TestOrderOfSystemdBoot(t *testing.T) {
	entries := map[string]string{
		"m-6.10.0.conf":    "sort-key debian\nmachine-id m\nversion 6.10.0\nlinux /a\n",
		"m-6.9.0+3.conf":   "sort-key debian\nmachine-id m\nversion 6.9.0\nlinux /a\n",
		"n-6.11.0.conf":    "sort-key debian\nmachine-id n\nversion 6.11.0\nlinux /a\n",
		"z-7.0.conf":       "linux /a\n",
		"a-8.0.conf":       "linux /a\n",
		"new-9.0+0-3.conf": "sort-key a\nlinux /a\n",
	}
	want := []string{"m-6.10.0.conf", "m-6.9.0.conf", "n-6.11.0.conf", "z-7.0.conf", "a-8.0.conf", "new-9.0.conf"}
	files := map[string]File{}
	for name, text := range entries {
		files["/efi/loader/entries/"+name] = File{Data: []byte(text)}
	}
	var got []string
	for _, e := range (Facts{Files: files, Boot: Boot{ESP: "/efi"}}).systemdEntries() {
		got = append(got, e.id)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestDefaultOfSystemdBoot(t *testing.T) {
	linux := "linux /m/" + testKernel + "/linux\ninitrd /m/" + testKernel + "/initrd.img-" + testKernel + "\noptions root=/dev/vda1 ro quiet\n"
	entries := map[string]string{"m-1.conf": linux, "m-2+2-1.conf": linux, "m-3+0-3.conf": linux, "shell.conf": "efi /shell.efi\n"}
	for pattern, want := range map[string]string{
		"": "m-2.conf", "default m-1*": "m-1.conf", "default M-?.CONF": "m-2.conf", "default gone.conf": "m-2.conf", "default @saved": "m-2.conf", "default m-2.conf": "m-2.conf",
	} {
		_, root := newGuest(t, withSystemdBoot(t, pattern+"\n", entries))
		f, err := Inspect(root, testDisks)
		if err != nil || f.Boot.Loader != LoaderSystemd || f.Boot.Default < 0 {
			t.Fatalf("%q: got %+v, %v", pattern, f.Boot, err)
		}
		if e := f.Boot.Entries[f.Boot.Default]; e.ID != want || e.Kernel != testKernel || len(e.Lost) > 0 {
			t.Errorf("%q: got %+v, want %s", pattern, e, want)
		}
	}
}

// TestSystemdBootIsConverted: entries, settings, the initramfs on the EFI system partition, and the loader where EC2 looks for it.
func TestSystemdBootIsConverted(t *testing.T) {
	linux := "title Debian\nlinux /m/" + testKernel + "/linux\ninitrd /m/" + testKernel + "/initrd.img-" + testKernel + "\noptions root=/dev/vda1 ro quiet\n"
	files := withSystemdBoot(t, "timeout menu-force\n", map[string]string{"m-1+3.conf": linux, "m-9.conf": strings.ReplaceAll(linux, "/linux", "/gone")})
	dir, root := newGuest(t, files)
	before := snapshot(t, dir)
	plan, err := planFor(t, root, protocol.ConversionSettings{})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Findings[0].Code != protocol.FindingOtherKernel {
		t.Errorf("the default entry has no kernel: got %+v", plan.Findings)
	}
	if _, err := Apply(root, plan); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "efi/loader/loader.conf"); got != "timeout 1\ndefault m-1.conf\n" {
		t.Errorf("loader.conf: got %q", got)
	}
	if got := content(t, dir, "efi/loader/entries/m-1+3.conf"); !strings.Contains(got, "\noptions root=UUID="+rootUUID+" ro console=tty0 console=ttyS0,115200n8 ") {
		t.Errorf("entry: got %q", got)
	}
	if got := content(t, dir, "efi/EFI/BOOT/BOOTX64.EFI"); got != files["efi/EFI/systemd/systemd-bootx64.efi"] {
		t.Errorf("fallback: got %q", got)
	}
	if image := "efi/m/" + testKernel + "/initrd.img-" + testKernel; !strings.HasPrefix(content(t, dir, image), files[image]) || content(t, dir, image) == files[image] {
		t.Error("the initramfs was not extended")
	}
	if again, err := planFor(t, root, protocol.ConversionSettings{}); err != nil || len(again.Edits) != 0 || again.Guest.Kernel != testKernel {
		t.Errorf("a second conversion would change %+v, %v", again.Edits, err)
	}
	if err := Undo(root); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("after the undo (-before +after):\n%s", diff)
	}
}

// TestUnifiedImages cannot be changed: another entry boots, or the guest is refused.
func TestUnifiedImages(t *testing.T) {
	linux := "linux /m/" + testKernel + "/linux\ninitrd /m/" + testKernel + "/initrd.img-" + testKernel + "\n"
	only := withSystemdBoot(t, "", nil)
	only["efi/EFI/Linux/debian-9.efi"] = "MZ"
	both := maps.Clone(only)
	both["efi/loader/entries/a-1.conf"] = linux
	for name, tt := range map[string]struct {
		files tree
		want  protocol.FindingCode
	}{"only": {only, protocol.FindingBootLoader}, "both": {both, protocol.FindingOtherKernel}} {
		_, root := newGuest(t, tt.files)
		plan, err := planFor(t, root, protocol.ConversionSettings{})
		if plan.Findings[0].Code != tt.want || (err != nil) != (name == "only") {
			t.Errorf("%s: got %+v, %v", name, plan.Findings, err)
		}
	}
}

// TestWhichLoaderBoots: what is in the fallback's place decides when the guest has both.
func TestWhichLoaderBoots(t *testing.T) {
	for fallback, want := range map[string]Loader{"GRUB": LoaderGRUB, "LoaderInfo: systemd-boot 252": LoaderSystemd, "": LoaderGRUB} {
		files := withSystemdBoot(t, "", map[string]string{"a.conf": "linux /m/" + testKernel + "/linux\n"})
		files["boot/grub/grub.cfg"] = grubCfgOfDebian
		files["efi/EFI/debian/grubx64.efi"] = "GRUB"
		if fallback != "" {
			files["efi/EFI/Boot/bootx64.efi"] = fallback
		}
		_, root := newGuest(t, files)
		if f, err := Inspect(root, testDisks); err != nil || f.Boot.Loader != want {
			t.Errorf("fallback %q: got %s, %v", fallback, f.Boot.Loader, err)
		}
	}
}

func TestPartitionsThatSystemdMountsByTheirType(t *testing.T) {
	const fstab = "UUID=" + rootUUID + " / ext4 defaults 0 1\n"
	esp := Filesystem{Partition: 3, Type: "vfat", UUID: "AB-CD", PartType: espType}
	disks := []Disk{{Boot: true, Filesystems: append(testDisks[0].Filesystems[:1:1], esp)}, {Filesystems: []Filesystem{{Type: "vfat", PartType: espType, UUID: "other"}}}}
	for name, tt := range map[string]struct {
		fstab string
		files tree
		want  string
	}{
		"efi":                  {fstab, tree{"efi/x": "-> y", "boot/y": "x"}, "/efi"},
		"empty boot":           {fstab, tree{"boot/x": "-> y"}, ""}, // not empty
		"in fstab":             {fstab + "UUID=AB-CD /efi vfat defaults 0 2\n", tree{"efi/x": "x"}, ""},
		"somewhere else there": {fstab + "UUID=AB-CD /srv/esp vfat defaults 0 2\n", tree{"efi/x": "x"}, ""},
	} {
		_, root := newGuest(t, tt.files)
		m, ok := ImplicitESP(root, tt.fstab, disks)
		if m.Path != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: got %+v, %v", name, m, ok)
		}
	}
	dir, root := newGuest(t, tree{"etc/x": "x"})
	for _, d := range []string{"boot/efi", "boot"} { // the innermost alone, then the outer one
		if err := root.Mkdir("/"+d, 0o755); err != nil {
			t.Fatal(filepath.Join(dir, d), err)
		}
		if m, ok := ImplicitESP(root, fstab, disks); !ok || m.Path != "/boot/efi" {
			t.Errorf("%s: got %+v, %v", d, m, ok)
		}
	}
}

func FuzzLoaderConf(f *testing.F) {
	f.Add("default a-*\ntimeout 5\n", "m-1+3")
	f.Add("#timeout\ntimeout menu-force\nconsole-mode keep", "x")
	f.Fuzz(func(t *testing.T, text, id string) {
		p := &planner{chosen: &BootEntry{ID: "a.conf"}}
		once := p.loaderConf(text)
		if twice := p.loaderConf(once); twice != once {
			t.Errorf("%q:\nonce:  %q\ntwice: %q", text, once, twice)
		}
		files := map[string]File{"/efi/loader/entries/" + id + ".conf": {Data: []byte(text)}, "/efi/loader/entries/b+1.conf": {Data: []byte("linux /x\n")}}
		if got := (Facts{Files: files, Boot: Boot{ESP: "/efi"}}).systemdEntries(); len(got) > len(files) {
			t.Errorf("%q: %d entries", id, len(got))
		}
	})
}

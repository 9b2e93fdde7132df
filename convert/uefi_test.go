package convert

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rehost/protocol"
)

func TestFolderOfPackagesIsNoUEFI(t *testing.T) {
	for file, want := range map[string]string{
		"boot/efi/EFI/centos/fwupx64.efi": "bios", "boot/efi/EFI/debian/grubx64.efi": "uefi", "boot/efi/EFI/Boot/bootx64.efi": "uefi",
	} {
		files := debian(t)
		files[file] = "loader"
		_, root := newGuest(t, files)
		if f, err := Inspect(root, testDisks); err != nil || f.Guest.BootMode != want {
			t.Errorf("%s: got %s, %v, want %s", file, f.Guest.BootMode, err, want)
		}
	}
}

// TestLoadersInAFolderAreNoUEFI: packages of loaders put them below /boot/efi on a server that boots by BIOS, too.
func TestLoadersInAFolderAreNoUEFI(t *testing.T) {
	files := debian(t)
	files["boot/efi/EFI/redhat/grubx64.efi"], files["efi/EFI/BOOT/BOOTX64.EFI"] = "grub", "grub"
	_, root := newGuest(t, files)
	for at, want := range map[string]string{"": "bios", "/efi": "uefi"} {
		disk := testDisks[0]
		disk.Filesystems = append(slices.Clone(disk.Filesystems), Filesystem{Partition: 3, Type: "vfat", UUID: "AB-CD", Mount: at})
		disk.Filesystems[0].Mount = "/"
		f, err := Inspect(root, []Disk{disk})
		if err != nil || f.Guest.BootMode != want || at != "" && f.Boot.ESP != at {
			t.Errorf("with an EFI system partition at %q: got %s, %q, %v", at, f.Guest.BootMode, f.Boot.ESP, err)
		}
	}
}

// TestGrubOnTheEFIPartition is RHEL 8 with UEFI: the menu and its environment are on the EFI system partition, wherever that is mounted.
func TestGrubOnTheEFIPartition(t *testing.T) {
	for _, esp := range espDirs {
		t.Run(esp, func(t *testing.T) { testGrubOnTheEFIPartition(t, esp) })
	}
}

func testGrubOnTheEFIPartition(t *testing.T, esp string) {
	t.Helper()
	files := debian(t)
	vendor := strings.TrimPrefix(esp, "/") + "/EFI/redhat/"
	files[vendor+"grub.cfg"] = strings.Replace(grubCfgOfDebian, `default="0"`, `default="${saved_entry}"`, 1)
	files[vendor+"grubenv"] = setGrubEnv("", map[string]string{"saved_entry": "gnulinux-simple", "kernelopts": "root=/dev/vda1 ro quiet"})
	files[vendor+"grubx64.efi"] = "grub"
	link := "../.." + esp + "/EFI/redhat/grubenv"
	files["boot/grub2/grubenv"] = "-> " + link
	delete(files, "boot/grub/grub.cfg")
	dir, root := newGuest(t, files)
	convertTree(t, root)
	env := parseGrubEnv(content(t, dir, vendor+"grubenv"))
	if !strings.HasPrefix(env["kernelopts"], "root=UUID="+rootUUID+" ro console=tty0") {
		t.Errorf("got %v", env)
	}
	if got := content(t, dir, vendor+"grub.cfg"); strings.Contains(got, "/dev/vda1") {
		t.Errorf("got %s", got)
	}
	if target, err := os.Readlink(filepath.Join(dir, "boot/grub2/grubenv")); err != nil || target != link {
		t.Errorf("the link became %q, %v", target, err)
	}
	for name, want := range map[string]string{"BOOTX64.EFI": "grub", "grub.cfg": "# Written by rehost: this loader is a copy of the one in " + esp + "/EFI/redhat.\nset prefix=($root)/EFI/redhat\nconfigfile $prefix/grub.cfg\n"} {
		if got := content(t, dir, esp+"/EFI/BOOT/"+name); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestUEFIWithoutFallback(t *testing.T) {
	_, root := newGuest(t, debian(t))
	for name, tt := range map[string]struct {
		espMount string
		critical bool
	}{"not mounted": {"", false}, "empty": {"/efi", true}} {
		disk := testDisks[0]
		disk.Filesystems = append(slices.Clone(disk.Filesystems), Filesystem{Partition: 15, Type: "vfat", PartType: espType, Mount: tt.espMount})
		disk.Filesystems[0].Mount = "/"
		f, err := Inspect(root, []Disk{disk})
		if err != nil || f.Guest.BootMode != "uefi" {
			t.Fatalf("%s: got %s, %v", name, f.Guest.BootMode, err)
		}
		plan, err := MakePlan(f, protocol.ConversionSettings{})
		i := slices.IndexFunc(plan.Findings, func(f protocol.Finding) bool { return f.Code == protocol.FindingUEFIFallback })
		if i < 0 || (plan.Findings[i].Severity == protocol.SeverityCritical) != tt.critical || (err != nil) != tt.critical {
			t.Errorf("%s: got %v, %+v", name, err, plan.Findings)
		}
	}
}

func TestBIOSDiskWithGPTNeedsPlaceForGRUB(t *testing.T) {
	_, root := newGuest(t, debian(t))
	for core, fits := range map[string]bool{biosBootType: true, strings.ToUpper(biosBootType): true, "0fc63daf-8483-4772-8e79-3d69d8477de4": false, "": true} {
		disk := testDisks[0]
		disk.Filesystems = append(slices.Clone(disk.Filesystems), Filesystem{Partition: 14, PartType: core})
		f, err := Inspect(root, []Disk{disk})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := MakePlan(f, protocol.ConversionSettings{}); (err == nil) != fits {
			t.Errorf("partition type %q: got %v", core, err)
		}
	}
}

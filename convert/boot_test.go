package convert

import (
	"bytes"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"rehost/internal/cpio"
	"rehost/protocol"
)

func TestEntriesAreInTheOrderOfBlscfg(t *testing.T) {
	newestFirst := []string{
		"b-5.14.0-70.el9.x86_64", // another machine's id, which counts first
		"a-6.12.0-55.el10.x86_64",
		"a-5.14.0-427.13.1.el9_4.x86_64",
		"a-5.14.0-427.9.1.el9_4.x86_64",
		"a-5.14.0-362.el9.x86_64+debug",
		"a-5.14.0-362.el9.x86_64",
		"a-4.18.0-513.el8.x86_64",
		"a-4.9.0-1",
		"a-4.9.0~rc1-1",
		"a-0-rescue",
	}
	files := map[string]File{}
	for _, id := range newestFirst {
		files[entriesDir+"/"+id+".conf"] = File{Data: []byte("title " + id + "\nlinux /vmlinuz\n")}
	}
	var got []string
	for _, e := range (Facts{Files: files}).blsEntries() {
		got = append(got, e.id)
	}
	if diff := cmp.Diff(newestFirst, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestDefaultOfEntries(t *testing.T) {
	bls := []blsEntry{{id: "m-2", title: "Two", kernel: "/two"}, {id: "m-1", title: "One", kernel: "/one"}}
	config := "set default=\"${saved_entry}\"\nblscfg\nmenuentry 'Firmware' {\n\tfwsetup\n}\n"
	for _, tt := range []struct{ saved, next, want string }{
		{"", "", "/two"}, {"m-1", "", "/one"}, {"One", "", "/one"}, {"1", "", "/one"}, {"gone", "", "/two"}, {"m-2", "m-1", "/one"},
	} {
		entries, chosen := menu(config, bls)
		got, ok := defaultEntry(entries, chosen, map[string]string{"saved_entry": tt.saved, "next_entry": tt.next}, true)
		if !ok || got.kernel != tt.want {
			t.Errorf("saved %q, next %q: got %q, %v, want %s", tt.saved, tt.next, got.kernel, ok, tt.want)
		}
	}
}

func TestGrubEnvKeepsItsSizeAndWhatIsNotNamed(t *testing.T) {
	old := setGrubEnv("", map[string]string{"saved_entry": "a", "other": `back\slash`, "two": "lines\nhere"})
	if len(old) != envBlock {
		t.Fatalf("got %d bytes", len(old))
	}
	now := setGrubEnv(old, map[string]string{"saved_entry": "b", "next_entry": "", "kernelopts": strings.Repeat("x", 1200)})
	want := map[string]string{"saved_entry": "b", "other": `back\slash`, "two": "lines\nhere", "kernelopts": strings.Repeat("x", 1200)}
	if diff := cmp.Diff(want, parseGrubEnv(now)); diff != "" || len(now) != 2*envBlock || !strings.HasPrefix(now, envHead) {
		t.Errorf("got %d bytes (-want +got):\n%s", len(now), diff)
	}
	if again := setGrubEnv(now, map[string]string{"saved_entry": "b"}); again != now {
		t.Error("the same value changes the block")
	}
}

// TestAnotherKernelIsChosen makes the default kernel of a Debian unfit in each way that there is.
func TestAnotherKernelIsChosen(t *testing.T) {
	const other = "6.1.0-50-amd64"
	for name, change := range map[string]func(tree){
		"no driver":    func(f tree) { f["usr/lib/modules/"+testKernel+"/modules.dep"] = "kernel/nvme.ko.xz:\n" },
		"no modules":   func(f tree) { delete(f, "usr/lib/modules/"+testKernel+"/modules.dep") },
		"no initramfs": func(f tree) { delete(f, "boot/initrd.img-"+testKernel) },
		"a broken one": func(f tree) { f["boot/initrd.img-"+testKernel] = "this is no archive" },
		"next boot only": func(f tree) {
			f["boot/grub/grubenv"] = setGrubEnv("", map[string]string{"next_entry": "gnulinux-simple"})
		},
		"saved in grubenv": func(f tree) {
			f["boot/grub/grubenv"] = setGrubEnv("", map[string]string{"saved_entry": "gnulinux-simple"})
		},
		"and a rescue mode": func(f tree) { delete(f, "boot/initrd.img-"+testKernel) },
	} {
		t.Run(name, func(t *testing.T) {
			files := debian(t)
			for p, text := range maps.Clone(files) {
				files[strings.ReplaceAll(p, testKernel, other)] = text
			}
			files["boot/grub/grub.cfg"] = strings.Replace(grubCfgOfDebian, "submenu 'Advanced options'", "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nfi\n"+
				"menuentry 'Older' $menuentry_id_option 'older' {\n\tlinux /boot/vmlinuz-"+other+" root=/dev/vda1\n\tinitrd /boot/initrd.img-"+other+"\n}\nsubmenu 'Advanced options'", 1)
			delete(files, "boot/initrd.img-"+testKernel) // makes the default one unfit in any case
			if name == "saved in grubenv" {
				files["boot/grub/grub.cfg"] = strings.Replace(files["boot/grub/grub.cfg"], `default="0"`, `default="${saved_entry}"`, 1)
			}
			change(files)
			dir, root := newGuest(t, files)
			plan, err := planFor(t, root, protocol.ConversionSettings{})
			if err != nil {
				t.Fatal(err)
			}
			if plan.Guest.Kernel != other || plan.Findings[0].Code != protocol.FindingOtherKernel {
				t.Errorf("got kernel %s, findings %+v", plan.Guest.Kernel, plan.Findings)
			}
			if _, err := Apply(root, plan); err != nil {
				t.Fatal(err)
			}
			f, err := Inspect(root, testDisks)
			if err != nil || f.Guest.Kernel != other {
				t.Errorf("after the conversion %s boots, %v", f.Guest.Kernel, err)
			}
			if env := content(t, dir, "boot/grub/grub.cfg"); name == "saved in grubenv" && !strings.Contains(env, savedEntry) {
				t.Error("grub.cfg does not use grubenv any more")
			}
		})
	}
}

func TestSpaceIsCountedForEachFilesystem(t *testing.T) {
	_, root := newGuest(t, debian(t))
	f, err := Inspect(root, testDisks)
	if err != nil {
		t.Fatal(err)
	}
	f.Guest.RootUUID = rootUUID
	image := f.Kernels[0].Initrd.Size
	large := Space{Mount: "/", Free: 1 << 30, Files: 1 << 20}
	for name, tt := range map[string]struct {
		spaces []Space
		fits   bool
	}{
		"enough":                   {[]Space{large, {Mount: "/boot", Free: image + spaceSlack + 64<<10, Files: 1000}}, true},
		"boot is full":             {[]Space{large, {Mount: "/boot", Free: image + spaceSlack - 1, Files: 1000}}, false},
		"boot has no inodes":       {[]Space{large, {Mount: "/boot", Free: 1 << 30, Files: 10}}, false},
		"boot does not count them": {[]Space{large, {Mount: "/boot", Free: 1 << 30, Files: -1}}, true},
		"var keeps the originals":  {[]Space{large, {Mount: "/var", Free: spaceSlack, Files: 1000}}, false},
		"usr is not written to":    {[]Space{large, {Mount: "/usr", Free: 0, Files: 0}}, true},
	} {
		f.Spaces = tt.spaces
		_, err := MakePlan(f, protocol.ConversionSettings{})
		var p *protocol.Problem
		if (err == nil) != tt.fits || (err != nil && (!errors.As(err, &p) || !strings.Contains(p.Message, tt.spaces[1].Mount))) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestKernelWithoutInitramfs has its drivers built in. By itself a kernel finds a partition by its UUID, and no filesystem.
func TestKernelWithoutInitramfs(t *testing.T) {
	files := debian(t)
	delete(files, "boot/initrd.img-"+testKernel)
	files["usr/lib/modules/"+testKernel+"/modules.builtin"] = "kernel/fs/ext4/ext4.ko\nkernel/nvme.ko\nkernel/ena.ko\n"
	files["boot/grub/grub.cfg"] = strings.ReplaceAll(grubCfgOfDebian, "\tinitrd\t/boot/initrd.img-"+testKernel+"\n", "")
	dir, root := newGuest(t, files)
	convertTree(t, root)
	if got := content(t, dir, "boot/grub/grub.cfg"); !strings.Contains(got, "root=PARTUUID=1ed9e123-01 ro") || strings.Contains(got, "root=/dev") {
		t.Errorf("got %s", got)
	}
}

// TestMissingFilesOfTheDefaultEntry: GRUB stops at a file that is not there and waits for a key.
func TestMissingFilesOfTheDefaultEntry(t *testing.T) {
	for lost, change := range map[string]func(tree){
		"/boot/vmlinuz-" + testKernel:    func(f tree) { delete(f, "boot/vmlinuz-"+testKernel) },
		"/boot/initrd.img-" + testKernel: func(f tree) { f["boot/initrd.img-"+testKernel] = "-> /boot/gone" },
		"/boot/initrd-other": func(f tree) {
			f["boot/grub/grub.cfg"] = strings.Replace(grubCfgOfDebian, "initrd.img-"+testKernel, "initrd-other", 1)
		},
	} {
		files := debian(t)
		change(files)
		_, root := newGuest(t, files)
		plan, err := planFor(t, root, protocol.ConversionSettings{})
		if err == nil || plan.Findings[0].Code != protocol.FindingNoKernel || !strings.Contains(plan.Findings[0].Message, lost) {
			t.Errorf("without %s: got %v, %+v", lost, err, plan.Findings)
		}
	}
}

// TestTheInitramfsIsThatOfTheDefaultEntry is Arch Linux, where another entry of the same kernel has an image of its own.
func TestTheInitramfsIsThatOfTheDefaultEntry(t *testing.T) {
	files := debian(t)
	files["boot/other.img"] = files["boot/initrd.img-"+testKernel]
	files["boot/grub/grub.cfg"] = strings.Replace(grubCfgOfDebian, "submenu", "menuentry 'Other' --id other {\n\tlinux /boot/vmlinuz-"+testKernel+" root=/dev/vda1\n\tinitrd /boot/other.img\n}\nsubmenu", 1)
	for chosen, want := range map[string]string{"other": "/boot/other.img", "0": "/boot/initrd.img-" + testKernel} {
		with := maps.Clone(files)
		with["boot/grub/grub.cfg"] = strings.Replace(files["boot/grub/grub.cfg"], `default="0"`, `default="`+chosen+`"`, 1)
		_, root := newGuest(t, with)
		f, err := Inspect(root, testDisks)
		if err != nil || f.Kernels[0].Initrd == nil || f.Kernels[0].Initrd.Path != want {
			t.Errorf("default %s: got %+v, %v", chosen, f.Kernels, err)
		}
	}
}

// TestTheImageForRepairsComesLast: with another default kernel, that of the menu's normal entry is the one that would boot.
func TestTheImageForRepairsComesLast(t *testing.T) {
	const other = "6.1.0-50-amd64"
	files := debian(t)
	for p, text := range maps.Clone(files) {
		files[strings.ReplaceAll(p, testKernel, other)] = text
	}
	files["boot/repair.img"] = files["boot/initrd.img-"+testKernel]
	entry := func(title, kernel, image string) string {
		return "menuentry '" + title + "' {\n\tlinux /boot/vmlinuz-" + kernel + "\n\tinitrd /boot/" + image + "\n}\n"
	}
	files["boot/grub/grub.cfg"] = entry("New", testKernel, "initrd.img-"+testKernel) + entry("Rescue", other, "repair.img") + entry("Old", other, "initrd.img-"+other)
	_, root := newGuest(t, files)
	f, err := Inspect(root, testDisks)
	if err != nil || f.Kernels[0].Version != other || f.Kernels[0].Initrd.Path != "/boot/initrd.img-"+other {
		t.Errorf("got %+v, %v", f.Kernels, err)
	}
}

func TestInitramfsWithoutToolForRootIsRefused(t *testing.T) {
	_, root := newGuest(t, debian(t))
	disks := []Disk{{Volume: "vol-1", Boot: true, Filesystems: []Filesystem{
		{Partition: 1, Type: "ext4", UUID: rootUUID, Mount: "/", Stack: []Layer{{Kind: LayerLVM, Group: "vg", Name: "root"}}},
	}}}
	f, err := Inspect(root, disks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MakePlan(f, protocol.ConversionSettings{}); err == nil || !strings.Contains(err.Error(), "needs lvm") {
		t.Errorf("got %v", err)
	}
}

// TestFolderOfAToolIsNoTool: an initramfs has a folder etc/lvm whether or not it has the program.
func TestFolderOfAToolIsNoTool(t *testing.T) {
	var image bytes.Buffer
	w := cpio.NewWriter(&image)
	if err := errors.Join(w.Write("etc/lvm", cpio.ModeDir|0o755, nil), w.Write("usr/sbin/mdadm", cpio.ModeFile|0o755, []byte("x")), w.Close()); err != nil {
		t.Fatal(err)
	}
	in := &Initrd{}
	if err := in.scan(&image, testKernel); err != nil || in.Tools["lvm"] || !in.Tools["mdadm"] {
		t.Errorf("got %v, %v", in.Tools, err)
	}
}

func TestOtherLoadersAreRefused(t *testing.T) {
	for file, loader := range map[string]Loader{
		"boot/extlinux/extlinux.conf": LoaderExtlinux, "boot/grub/menu.lst": LoaderGRUBLegacy,
	} {
		files := debian(t)
		delete(files, "boot/grub/grub.cfg")
		files[file] = "default x\n"
		_, root := newGuest(t, files)
		plan, err := planFor(t, root, protocol.ConversionSettings{})
		if err == nil || !strings.Contains(err.Error(), string(loader)) || plan.Findings[0].Code != protocol.FindingBootLoader {
			t.Errorf("%s: got %v, %+v", file, err, plan.Findings)
		}
	}
}

func TestProgramsAreNotPrinted(t *testing.T) {
	files := debian(t)
	files["boot/efi/EFI/debian/grubx64.efi"] = "MZ\x00\x01 program"
	_, root := newGuest(t, files)
	for _, c := range convertTree(t, root) {
		if strings.HasSuffix(c.Path, ".EFI") && c.Detail != "12 bytes" {
			t.Errorf("%s: got %q", c.Path, c.Detail)
		}
	}
}

func TestKernelWithoutGzipGetsPlainArchive(t *testing.T) {
	files := debian(t)
	files["boot/config-"+testKernel] = "CONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_GZIP is not set\nCONFIG_RD_ZSTD=y\n"
	dir, root := newGuest(t, files)
	before := len(content(t, dir, "boot/initrd.img-"+testKernel))
	convertTree(t, root)
	if added := strings.TrimLeft(content(t, dir, "boot/initrd.img-"+testKernel)[before:], "\x00"); !strings.HasPrefix(added, "070701") {
		t.Errorf("got %q", added[:6])
	}
}

func TestFilesInInitramfs(t *testing.T) {
	p := &planner{facts: Facts{Disks: testDisks}, set: protocol.ConversionSettings{Network: "dhcp"}}
	conf := map[string]string{
		"etc/cmdline.d/95resume.conf":                                            " resume=/dev/vda2\n",
		"etc/cmdline.d/40-network.conf":                                          "ifname=ens192:00:50:56:9a:33:44 rd.neednet=1 ip=10.20.1.19::10.20.1.1:24::ens192:none\n",
		"usr/lib/dracut/hooks/initqueue/finished/devexists-\\x2fdev\\x2fsda2.sh": "[ -e \"/dev/sda2\" ]\n",
		"usr/lib/dracut/hooks/initqueue/finished/devexists-uuid.sh":              "[ -e \"/dev/disk/by-uuid/x\" ]\n",
		"etc/mdadm.conf":                 "DEVICE /dev/sda1\n  /dev/sdb1\nARRAY /dev/md0 devices=/dev/sda1,/dev/sdb1 UUID=a:b:c:d\n",
		"etc/lvm/lvm.conf":               "devices {\n\tglobal_filter = [\n\t\t\"a|/dev/sda|\",\n\t\t\"r|.*|\" ]\n\tuse_devicesfile = 1\n}\n",
		"etc/lvm/devices/system.devices": "VERSION=1.1.2\n",
	}
	want := map[string]string{
		"etc/cmdline.d/95resume.conf":                                            "resume=UUID=" + swapUUID + "\n",
		"etc/cmdline.d/40-network.conf":                                          "rd.neednet=1 ip=dhcp\n",
		"usr/lib/dracut/hooks/initqueue/finished/devexists-\\x2fdev\\x2fsda2.sh": "# rehost: waited for a disk of the old hypervisor\n",
		"etc/mdadm.conf": "DEVICE partitions\nARRAY /dev/md0 UUID=a:b:c:d\n",
		"etc/lvm/lvm.conf": "devices {\n# rehost: names disks of the old hypervisor: \tglobal_filter = [\n# rehost: names disks of the old hypervisor: \t\t\"a|/dev/sda|\",\n" +
			"# rehost: names disks of the old hypervisor: \t\t\"r|.*|\" ]\n\tuse_devicesfile = 0\n}\n",
	}
	in := &Initrd{Conf: conf}
	got := p.fixedConf(in)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed files (-want +got):\n%s", diff)
	}
	maps.Copy(in.Conf, got)
	if again := p.fixedConf(in); len(again) != 0 {
		t.Errorf("changed again: %v", again)
	}
}

// seeds adds the files of that name in the trees to a fuzz target.
func seeds(f *testing.F, match func(name string) bool, add func(text string)) {
	f.Helper()
	trees, err := filepath.Glob("testdata/*/before.txtar")
	if err != nil || len(trees) == 0 {
		f.Fatalf("no trees: %v", err)
	}
	for _, name := range trees {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if match(file.Name) {
				add(string(file.Data))
			}
		}
	}
}

func FuzzGrubEnv(f *testing.F) {
	f.Add("# GRUB Environment Block\nsaved_entry=a\nkernelopts=root=/dev/sda1 ro \n####", "saved_entry", "b>c")
	f.Add("# GRUB Environment Block\n# WARNING\na=x\\\ny\\\\\n#", "a", "\n\\")
	seeds(f, func(name string) bool { return strings.HasSuffix(name, "grubenv") }, func(text string) { f.Add(text, "saved_entry", "x") })
	f.Fuzz(func(t *testing.T, text, name, value string) {
		if name == "" || strings.ContainsAny(name, "=\n\\#") {
			t.Skip()
		}
		before := parseGrubEnv(text)
		now := setGrubEnv(text, map[string]string{name: value})
		got := parseGrubEnv(now)
		if got[name] != value {
			t.Errorf("%q: %s is %q, want %q", text, name, got[name], value)
		}
		delete(before, name)
		delete(got, name)
		if now != text {
			maps.DeleteFunc(before, func(_, v string) bool { return v == "" })
			maps.DeleteFunc(got, func(_, v string) bool { return v == "" })
			if diff := cmp.Diff(before, got); diff != "" || len(now)%envBlock != 0 {
				t.Errorf("%q: %d bytes, others changed:\n%s", text, len(now), diff)
			}
		}
		if again := setGrubEnv(now, map[string]string{name: value}); again != now {
			t.Errorf("%q: the second time gives %q", now, again)
		}
	})
}

func FuzzBLS(f *testing.F) {
	f.Add("title A\nlinux /vmlinuz-1\ninitrd /a $tuned_initrd\noptions root=/dev/sda1 ro quiet\n", "m-1-2.conf", "m-0-rescue.conf")
	f.Add("options $kernelopts\n", "a.conf", "~.conf")
	seeds(f, func(name string) bool { return strings.HasPrefix("/"+name, entriesDir) }, func(text string) { f.Add(text, "m-5.14.0-427.el9.x86_64", "m-5.14.0-70.el9.x86_64") })
	f.Fuzz(func(t *testing.T, text, a, b string) {
		p := &planner{facts: Facts{Disks: testDisks}, set: protocol.ConversionSettings{Network: "dhcp"}}
		once := p.blsText(text, "")
		if twice := p.blsText(once, ""); twice != once {
			t.Errorf("%q:\nonce:  %q\ntwice: %q", text, once, twice)
		}
		if strings.Count(once, "\n") < strings.Count(text, "\n") {
			t.Errorf("%q: lines were lost: %q", text, once)
		}
		parseBLS("x.conf", text)
		if x, y := compareIDs(a, b), compareIDs(b, a); (x < 0) != (y > 0) || (x == 0) != (y == 0) {
			t.Errorf("%q and %q: %d and %d", a, b, x, y)
		}
	})
}

func FuzzAssembly(f *testing.F) {
	f.Add("devices {\n\tfilter = [ \"a|/dev/sda|\",\n \"r|.*|\" ]\n}\n", "DEVICE /dev/sda1\n /dev/sdb\nARRAY /dev/md0 devices=/dev/sda1 UUID=x\n", "MODULES=(a b)\n")
	f.Fuzz(func(t *testing.T, lvm, mdadm, modules string) {
		for name, tt := range map[string]struct {
			text string
			edit func(string) string
		}{
			"filters":     {lvm, fixFilters},
			"devicesfile": {lvm, withoutDevicesFile},
			"arrays":      {mdadm, fixArrays},
			"modules":     {modules, withModules},
			"shell":       {modules, func(s string) string { return withShellModules(s, "MODULES", "(", ")") }},
		} {
			once := tt.edit(tt.text)
			if twice := tt.edit(once); twice != once {
				t.Errorf("%s of %q:\nonce:  %q\ntwice: %q", name, tt.text, once, twice)
			}
		}
	})
}

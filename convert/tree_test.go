package convert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/tools/txtar"

	"rehost/internal/cpio"
	"rehost/protocol"
)

var update = flag.Bool("update", false, "write what conversions of the trees in testdata do into their after.txtar")

// TestTrees converts a guest of each distribution in testdata. What a conversion changes is in after.txtar; see
// testdata/README.md for both formats.
func TestTrees(t *testing.T) {
	befores, err := filepath.Glob("testdata/*/before.txtar")
	if err != nil || len(befores) == 0 {
		t.Fatalf("no trees: %v", err)
	}
	for _, before := range befores {
		dir := filepath.Dir(before)
		t.Run(filepath.Base(dir), func(t *testing.T) { testTree(t, dir) })
	}
}

func testTree(t *testing.T, source string) {
	t.Helper()
	g := readTree(t, filepath.Join(source, "before.txtar"))
	dir, root := newGuest(t, g.files)
	before := snapshot(t, dir)
	got, converted := g.convert(t, dir, root)
	golden := filepath.Join(source, "after.txtar")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the conversion does something else than %s says (-want +got); -update takes it over:\n%s", golden, d)
	}
	if !converted {
		if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
			t.Errorf("refused, and files changed:\n%s", d)
		}
		return
	}
	once := snapshot(t, dir)
	if again, err := g.plan(t, root); err != nil || len(again.Edits) != 0 {
		t.Errorf("a second conversion would change %+v, %v", again.Edits, err)
	}
	if err := Undo(root); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
		t.Errorf("after the undo (-before +after):\n%s", d)
	}
	g.convert(t, dir, root)
	if d := cmp.Diff(once, snapshot(t, dir)); d != "" {
		t.Errorf("converted again after the undo (-first +second):\n%s", d)
	}
}

// fakeGuest is a guest made from a before.txtar.
type fakeGuest struct {
	files    tree
	disks    []Disk
	rootUUID string
	settings protocol.ConversionSettings
	images   map[string]*fakeInitrd
}

type fakeInitrd struct {
	compression string
	early       bool // the processor's microcode comes first
	members     bool // modules and the rest are in two compressed members
	files       tree
}

// kernelModules are the drivers of the fake kernels with what they depend on.
var kernelModules = map[string]struct{ file, needs string }{
	"nvme":       {"drivers/nvme/host/nvme", "nvme-core"},
	"nvme-core":  {"drivers/nvme/host/nvme-core", ""},
	"ena":        {"drivers/net/ethernet/amazon/ena/ena", ""},
	"dm-mod":     {"drivers/md/dm-mod", ""},
	"raid1":      {"drivers/md/raid1", ""},
	"xfs":        {"fs/xfs/xfs", ""},
	"ext4":       {"fs/ext4/ext4", ""},
	"btrfs":      {"fs/btrfs/btrfs", ""},
	"virtio_blk": {"drivers/block/virtio_blk", ""},
	"vmw_pvscsi": {"drivers/scsi/vmw_pvscsi", ""},
	"hv_storvsc": {"drivers/hv/hv_storvsc", ""},
}

func readTree(tb testing.TB, name string) *fakeGuest {
	tb.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	g := &fakeGuest{files: tree{}, images: map[string]*fakeInitrd{}, settings: protocol.ConversionSettings{Network: "dhcp"}}
	for line := range strings.Lines(string(archive.Comment)) {
		words := strings.Fields(line)
		if len(words) < 1 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := g.directive(words[0], words[1:]); err != nil {
			tb.Fatalf("%s: %q: %v", name, line, err)
		}
	}
	for _, f := range archive.Files {
		if image, inner, ok := strings.Cut(f.Name, ": "); ok {
			g.images[image].files[inner] = string(f.Data)
			continue
		}
		g.files[f.Name] = string(f.Data)
		if path.Base(f.Name) == "grubenv" { // its size is fixed
			g.files[f.Name] += strings.Repeat("#", 1024-len(f.Data))
		}
	}
	for name, in := range g.images {
		g.files[name] = in.pack(tb)
	}
	return g
}

// directive makes the part of a guest that has no text: see testdata/README.md.
func (g *fakeGuest) directive(verb string, words []string) error {
	options := map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			options[k] = v
		}
	}
	switch {
	case verb == "disk":
		g.disks = append(g.disks, Disk{Volume: fmt.Sprintf("vol-%d", len(g.disks)+1), Boot: len(g.disks) == 0})
	case verb == "part" && len(words) > 1:
		fsys := Filesystem{
			Type: words[1], UUID: options["uuid"], Label: options["label"], PartUUID: options["partuuid"], PartType: options["parttype"],
			Mount: options["mount"],
		}
		for _, kind := range []LayerKind{LayerMD, LayerLUKS, LayerLVM, LayerSubvolume} {
			if name, ok := options[string(kind)]; ok {
				l := Layer{Kind: kind, Name: name}
				if group, volume, ok := strings.Cut(name, "/"); ok && kind == LayerLVM {
					l.Group, l.Name = group, volume
				}
				fsys.Stack = append(fsys.Stack, l)
			}
		}
		if _, err := fmt.Sscan(words[0], &fsys.Partition); err != nil {
			return err
		}
		if fsys.Mount == "/" {
			g.rootUUID = fsys.UUID
		}
		last := &g.disks[len(g.disks)-1]
		last.Filesystems = append(last.Filesystems, fsys)
	case verb == "network" && len(words) == 1:
		g.settings.Network = words[0]
	case verb == "link" && len(words) == 2:
		g.files[words[0]] = "-> " + words[1]
	case verb == "file":
		for _, w := range words {
			g.files[w] = ""
		}
	case verb == "vmlinuz" && len(words) == 2:
		g.files[words[0]] = fakeImage(words[1])
	case verb == "kernel" && len(words) > 0:
		return g.kernel(words[0], words[1:], options)
	case verb == "initrd" && len(words) > 0:
		return g.initrd(words[0], words[1:], options)
	default:
		return errors.New("unknown directive")
	}
	return nil
}

func (g *fakeGuest) kernel(version string, words []string, options map[string]string) error {
	base := "usr/lib/modules/"
	if options["in"] != "" {
		base = options["in"] + "/"
	}
	suffix := ".ko" + options["suffix"]
	var dep, builtin strings.Builder
	file := func(name string) string { return "kernel/" + kernelModules[name].file + suffix }
	for _, name := range words {
		name, isBuiltin := strings.CutPrefix(name, "+")
		if strings.Contains(name, "=") {
			continue
		}
		m, ok := kernelModules[name]
		switch {
		case !ok:
			return fmt.Errorf("unknown module %s", name)
		case isBuiltin:
			builtin.WriteString("kernel/" + m.file + ".ko\n")
			continue
		case m.needs != "":
			dep.WriteString(file(name) + ": " + file(m.needs) + "\n")
		default:
			dep.WriteString(file(name) + ":\n")
		}
		data, err := fakeModule(name, version, options)
		if err != nil {
			return err
		}
		g.files[base+version+"/"+file(name)] = string(data)
	}
	g.files[base+version+"/modules.dep"] = dep.String()
	g.files[base+version+"/modules.builtin"] = builtin.String()
	for _, f := range []string{"modules.dep.bin", "modules.alias.bin"} {
		g.files[base+version+"/"+f] = f + "\n"
	}
	return nil
}

// fakeImage is the head of a kernel image, with the version where the boot protocol has it.
func fakeImage(version string) string {
	head := make([]byte, 0x400)
	copy(head[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(head[0x20e:], 0x100)
	copy(head[0x300:], version+" (builder@host) #1 SMP\x00")
	return string(head)
}

// fakeModule is the content of a module's file; that of the NVMe driver says which parameter it takes.
func fakeModule(name, version string, options map[string]string) ([]byte, error) {
	text := name + " of " + version + "\n"
	if name == "nvme-core" && options["timeout"] != "" {
		text += "\x00parmtype=io_timeout:" + options["timeout"] + "\x00"
	}
	kind := map[string]string{"": "none", ".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[options["suffix"]]
	return pack(kind, text)
}

func (g *fakeGuest) initrd(image string, words []string, options map[string]string) error {
	in := &fakeInitrd{files: tree{"init": "#!/bin/sh\n"}, compression: "gzip"}
	lib := "usr/lib/modules/"
	for _, w := range words {
		switch w {
		case "early":
			in.early = true
		case "members":
			in.members = true
		case "unmerged":
			lib = "lib/modules/"
		case "gzip", "xz", "zstd", "lz4", "lzma", "bzip2", "none":
			in.compression = w
		default:
			if strings.Contains(w, "=") {
				continue
			}
			if _, ok := kernelModules[w]; !ok {
				return fmt.Errorf("unknown word %s", w)
			}
			in.files[lib+options["of"]+"/kernel/"+kernelModules[w].file+".ko"] = w + " in the initramfs\n"
		}
	}
	g.images[image] = in
	return nil
}

// pack builds the image as the distribution's tools do.
func (in *fakeInitrd) pack(tb testing.TB) string {
	tb.Helper()
	var image bytes.Buffer
	if in.early {
		image.WriteString(plainArchive(tb, tree{"kernel/x86/microcode/GenuineIntel.bin": "microcode"}))
	}
	parts := []tree{in.files}
	if in.members {
		parts = []tree{{}, {}}
		for name, text := range in.files {
			n := 1
			if strings.Contains(name, "/modules/") {
				n = 0
			}
			parts[n][name] = text
		}
	}
	for _, p := range parts {
		part, err := pack(in.compression, plainArchive(tb, p))
		if err != nil {
			tb.Fatal(err)
		}
		image.Write(part)
	}
	return image.String()
}

func plainArchive(tb testing.TB, files tree) string {
	tb.Helper()
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	for _, name := range sortedKeys(files) {
		if err := w.Write(name, cpio.ModeFile|0o644, []byte(files[name])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	for out.Len()%512 != 0 { // as cpio does
		out.WriteByte(0)
	}
	return out.String()
}

func pack(kind, data string) ([]byte, error) {
	args := map[string][]string{
		"none": {"cat"}, "gzip": {"gzip", "-nc"}, "xz": {"xz", "-c", "--check=crc32"}, "zstd": {"zstd", "-qc"},
		"lz4": {"lz4", "-lc"}, "lzma": {"xz", "-c", "--format=lzma"}, "bzip2": {"bzip2", "-c"},
	}[kind]
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return out, nil
}

func (g *fakeGuest) plan(tb testing.TB, root *Root) (Plan, error) {
	tb.Helper()
	facts, err := Inspect(root, g.disks)
	if err != nil {
		tb.Fatal(err)
	}
	facts.Guest.RootUUID = g.rootUUID
	return MakePlan(facts, g.settings)
}

// convert converts the guest and describes what changed; false when the plan was refused.
func (g *fakeGuest) convert(tb testing.TB, dir string, root *Root) ([]byte, bool) {
	tb.Helper()
	plan, planErr := g.plan(tb, root)
	old := map[string][]byte{}
	for _, e := range plan.Edits {
		if e.Action == ActionEdit {
			old[e.Path] = text(tb, dir, e.Path)
		}
	}
	var after txtar.Archive
	var head strings.Builder
	fmt.Fprintf(&head, "kernel %s, %s, %s, %s\n", plan.Guest.Kernel, plan.Guest.Initramfs, plan.Guest.Network, plan.Guest.BootMode)
	for _, f := range plan.Findings {
		fmt.Fprintf(&head, "finding %s %s %s: %s\n", f.Severity, f.Code, f.Subject, f.Message)
	}
	if planErr != nil {
		fmt.Fprintf(&head, "refused: %v\n", planErr)
		after.Comment = []byte(head.String())
		return txtar.Format(&after), false
	}
	changes, err := Apply(root, plan)
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range changes {
		if got, err := fileSum(root, c.Path); c.After != "" && (err != nil || got != c.After) {
			tb.Errorf("%s: got sha256 %s, %v, the change says %s", c.Path, got, err, c.After)
		}
		name := strings.TrimPrefix(c.Path, "/")
		switch c.Action {
		case ActionRemove:
			fmt.Fprintf(&head, "remove %s\n", name)
			if _, err := root.Lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
				tb.Errorf("%s is still there: %v", c.Path, err)
			}
		case ActionLink:
			fmt.Fprintf(&head, "link %s %s\n", name, c.Detail)
		case ActionAppend:
			after.Files = append(after.Files, txtar.File{Name: name + " (added)", Data: g.added(tb, dir, name)})
		case ActionEdit:
			after.Files = append(after.Files, txtar.File{Name: name + " (diff)", Data: unified(old[c.Path], text(tb, dir, name))})
		default:
			after.Files = append(after.Files, txtar.File{Name: name, Data: text(tb, dir, name)})
		}
	}
	after.Comment = []byte(head.String())
	return txtar.Format(&after), true
}

// unified is the difference between two texts without the names of files.
func unified(before, after []byte) []byte {
	_, lines, _ := bytes.Cut(diff.Diff("before", before, "after", after), []byte("\n+++ after\n"))
	return lines
}

// text returns a file's content; a grubenv must have its size, and comes without the padding.
func text(tb testing.TB, dir, name string) []byte {
	tb.Helper()
	data := []byte(content(tb, dir, name))
	if path.Base(name) == "grubenv" {
		if len(data) != 1024 {
			tb.Errorf("%s has %d bytes, GRUB wants 1024", name, len(data))
		}
		data = bytes.TrimRight(data, "#")
	}
	return data
}

// added lists what a conversion appended to an image: names, and the text of configuration.
func (g *fakeGuest) added(tb testing.TB, dir, name string) []byte {
	tb.Helper()
	now := content(tb, dir, name)
	if !strings.HasPrefix(now, g.files[name]) {
		tb.Errorf("%s: the guest's own image was changed", name)
	}
	old := 0
	count := func(cpio.Entry, io.Reader) error { old++; return nil }
	if _, err := cpio.Walk(strings.NewReader(g.files[name]), count); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := cpio.Walk(strings.NewReader(now), func(e cpio.Entry, r io.Reader) error {
		if old--; old >= 0 {
			return nil
		}
		data, err := io.ReadAll(r)
		switch {
		case e.Mode&cpio.ModeFile != cpio.ModeFile:
		case strings.Contains(e.Name, "/modules/"):
			fmt.Fprintf(&out, "%s\n", e.Name)
		default:
			fmt.Fprintf(&out, "%s:\n  %s\n", e.Name, strings.ReplaceAll(strings.TrimSuffix(string(data), "\n"), "\n", "\n  "))
		}
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

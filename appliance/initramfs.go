package appliance

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pierrec/lz4/v4"

	"rehost/internal/command"
	"rehost/internal/cpio"
)

// modules are the kernel modules that every conversion may need, besides those they depend on.
var modules = []string{
	"nvme", "e1000e", "ena", "virtio_pci", "virtio_net", "qemu_fw_cfg", "loop",
	"ext4", "vfat", "nls_ascii", "nls_cp437", "crc32c_generic", "libcrc32c",
}

// programs of the appliance besides its first process.
var programs = []string{"sbin/e2fsck"}

// moreModules and morePrograms are what some guests need. They are not in the initramfs, which the BIOS reads
// slowly, but beside it on the disk, from where the first process fetches them when it needs one.
var (
	moreModules = []string{
		"xfs", "btrfs", "dm_mod", "dm_crypt", "md_mod", "raid1",
		"algif_skcipher", "algif_hash", "aes_generic", "aesni_intel", "xts", "ecb", "cbc", "essiv", "sha256_generic", "sha512_generic",
	}
	morePrograms = []string{"sbin/lvm", "sbin/mdadm", "sbin/cryptsetup", "sbin/xfs_repair", "sbin/fsck.fat", "bin/busybox", "sbin/tune2fs", "sbin/sfdisk", "sbin/blkid"}
)

// initramfs writes the initramfs to initrd.img and what goes beside it to tools.img, in the folder base. The initramfs is not compressed: an
// emulated processor takes as long to unpack it, LZ4 even, as the BIOS to read the difference.
func (b *build) initramfs(ctx context.Context, version, base string) error {
	index, err := b.readModules(ctx, version)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if err := b.fill(index, files, modules, programs); err != nil {
		return err
	}
	more := map[string][]byte{}
	if err := b.fill(index, more, slices.Concat(modules, moreModules), morePrograms); err != nil {
		return err
	}
	for name := range files { // but for the list of modules, which is the longer one
		if name != moduleList {
			delete(more, name)
		}
	}
	var image, tools bytes.Buffer
	if err := writeTree(&image, files); err != nil {
		return err
	}
	zw := lz4.NewWriter(&tools)
	if err := zw.Apply(lz4.LegacyOption(true), lz4.CompressionLevelOption(lz4.Level9)); err != nil {
		return err
	}
	if err := errors.Join(writeTree(zw, more), zw.Close()); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(base, "initrd.img"), image.Bytes(), 0o644),
		os.WriteFile(filepath.Join(base, "tools.img"), tools.Bytes(), 0o644))
}

// fill adds modules and programs with what they need.
func (b *build) fill(index moduleIndex, files map[string][]byte, modules, programs []string) error {
	if err := index.add(modules, files); err != nil {
		return err
	}
	for _, p := range programs {
		if err := b.addProgram(p, files); err != nil {
			return err
		}
	}
	return nil
}

// writeTree writes an archive of the files and the folders above them.
func writeTree(out io.Writer, files map[string][]byte) error {
	w := cpio.NewWriter(out)
	names := make([]string, 0, len(files))
	dirs := []string{"dev", "proc", "sys", "tmp"}
	for name := range files {
		names = append(names, name)
		for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
			if !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}
	slices.Sort(names)
	slices.Sort(dirs)
	for _, d := range dirs {
		if err := w.Write(d, cpio.ModeDir|0o755, nil); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := w.Write(name, cpio.ModeFile|0o755, files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

// moduleIndex says where a kernel has its modules and which others each needs.
type moduleIndex struct {
	dir   string
	paths map[string]string
	needs map[string][]string
}

func (b *build) readModules(ctx context.Context, version string) (moduleIndex, error) {
	m := moduleIndex{dir: filepath.Join(b.root(), "lib/modules", version), paths: map[string]string{}, needs: map[string][]string{}}
	if _, err := command.Run(ctx, "depmod", "-b", b.root(), version); err != nil {
		return m, err
	}
	dep, err := os.ReadFile(filepath.Join(m.dir, "modules.dep"))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(dep)) {
		file, rest, _ := strings.Cut(line, ":")
		name := moduleName(file)
		m.paths[name] = file
		for f := range strings.FieldsSeq(rest) {
			m.needs[name] = append(m.needs[name], moduleName(f))
		}
	}
	return m, nil
}

// moduleList is the list from which the first process loads modules.
const moduleList = "lib/rehost/modules/list"

// add adds the modules and the list from which they are loaded.
func (m moduleIndex) add(modules []string, files map[string][]byte) error {
	var list bytes.Buffer
	var add func(name string) error
	done := map[string]bool{}
	add = func(name string) error {
		file, ok := m.paths[name]
		if !ok || done[name] { // built in
			return nil
		}
		done[name] = true
		for _, n := range m.needs[name] {
			if err := add(n); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(filepath.Join(m.dir, file))
		if err != nil {
			return err
		}
		files["lib/rehost/modules/"+name+".ko"] = data
		_, _ = fmt.Fprintln(&list, name, name+".ko", strings.Join(m.needs[name], " "))
		return nil
	}
	for _, name := range modules {
		if err := add(name); err != nil {
			return err
		}
	}
	files[moduleList] = list.Bytes()
	return nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// libDirs are where the packages keep their libraries.
var libDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"}

// addProgram adds a program with its libraries and their loader.
func (b *build) addProgram(path string, files map[string][]byte) error {
	data, err := b.readLinked(path)
	if err != nil {
		return err
	}
	files[path] = data
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if section := f.Section(".interp"); section != nil {
		text, err := section.Data()
		if err != nil {
			return err
		}
		loader := strings.TrimPrefix(strings.TrimRight(string(text), "\x00"), "/")
		if files[loader], err = b.readLinked(loader); err != nil {
			return err
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, l := range libraries {
		if err := b.addLibrary(l, files); err != nil {
			return fmt.Errorf("%s needs %s: %w", path, l, err)
		}
	}
	return nil
}

func (b *build) addLibrary(name string, files map[string][]byte) error {
	if _, ok := files[libDirs[0]+"/"+name]; ok {
		return nil
	}
	for _, dir := range libDirs {
		data, err := b.readLinked(dir + "/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files[libDirs[0]+"/"+name] = data
		lib, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return err
		}
		needs, err := lib.ImportedLibraries()
		if err != nil {
			return err
		}
		for _, n := range needs {
			if strings.HasPrefix(n, "ld-linux") {
				continue
			}
			if err := b.addLibrary(n, files); err != nil {
				return err
			}
		}
		return nil
	}
	return fs.ErrNotExist
}

// readLinked reads a file of the unpacked packages; links are followed inside them.
func (b *build) readLinked(path string) ([]byte, error) {
	for range 8 {
		full := filepath.Join(b.root(), path)
		target, err := os.Readlink(full)
		if err != nil {
			return os.ReadFile(full)
		}
		if filepath.IsAbs(target) {
			path = target
		} else {
			path = filepath.Join(filepath.Dir(path), target)
		}
	}
	return nil, fmt.Errorf("too many links: %s", path)
}

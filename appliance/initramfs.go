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

	"rehost/internal/command"
	"rehost/internal/cpio"
)

// modules are the kernel modules that a conversion may need, besides those they depend on.
var modules = []string{
	"nvme", "e1000e", "ena", "virtio_pci", "virtio_net", "loop",
	"ext4", "xfs", "btrfs", "vfat", "nls_ascii", "nls_cp437", "crc32c_generic", "libcrc32c",
}

// programs of the appliance besides its first process.
var programs = []string{"sbin/e2fsck"}

// initramfs writes the initramfs to path. It is not compressed: an emulated
// processor takes as long to unpack it, LZ4 even, as the BIOS to read the difference.
func (b *build) initramfs(ctx context.Context, version, path string) error {
	files := map[string][]byte{}
	if err := b.addModules(ctx, version, files); err != nil {
		return err
	}
	for _, p := range programs {
		if err := b.addProgram(p, files); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := writeTree(&out, files); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
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

// addModules adds the modules and the list from which they are loaded.
func (b *build) addModules(ctx context.Context, version string, files map[string][]byte) error {
	if _, err := command.Run(ctx, "depmod", "-b", b.root(), version); err != nil {
		return err
	}
	dir := filepath.Join(b.root(), "lib/modules", version)
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	paths, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(string(dep)) {
		file, rest, _ := strings.Cut(line, ":")
		name := moduleName(file)
		paths[name] = file
		for f := range strings.FieldsSeq(rest) {
			needs[name] = append(needs[name], moduleName(f))
		}
	}
	var list bytes.Buffer
	var add func(name string) error
	done := map[string]bool{}
	add = func(name string) error {
		file, ok := paths[name]
		if !ok || done[name] { // built in
			return nil
		}
		done[name] = true
		for _, n := range needs[name] {
			if err := add(n); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		files["lib/rehost/modules/"+name+".ko"] = data
		fmt.Fprintln(&list, name, name+".ko", strings.Join(needs[name], " "))
		return nil
	}
	for _, m := range modules {
		if err := add(m); err != nil {
			return err
		}
	}
	files["lib/rehost/modules/list"] = list.Bytes()
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

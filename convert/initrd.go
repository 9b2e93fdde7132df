package convert

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"rehost/internal/cpio"
)

// initrdNames are where initramfs images are when no boot entry names them, by the kernel's version.
var initrdNames = []string{"/boot/initrd.img-%s", "/boot/initramfs-%s.img", "/boot/initrd-%s", "/boot/initrd-%s.img"}

// inspectInitrd looks through a kernel's initramfs; nil when it has none. The one that a boot entry
// names is meant; an image of microcode alone is none.
func (f *Facts) inspectInitrd(root *Root, k Kernel, deps map[string][]string) (*Initrd, error) {
	var first, names, last []string
	for i, e := range f.Boot.Entries {
		switch {
		case e.Kernel != k.Version:
		case i == f.Boot.Default: // others may have an image of their own, such as mkinitcpio's fallback
			first = e.Initrds
		case e.Rescue:
			last = append(last, e.Initrds...)
		default:
			names = append(names, e.Initrds...)
		}
	}
	names = slices.Concat(first, names, last)
	for _, n := range initrdNames {
		names = append(names, fmt.Sprintf(n, k.Version))
	}
	for _, p := range names {
		if strings.Contains(path.Base(p), "ucode") {
			continue
		}
		file, err := root.OpenFile(p)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		in, err := f.readInitrd(file, p, k.Version)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
		return in, in.collect(root, k, deps, append(slices.Clone(drivers), f.stackDrivers()...))
	}
	return nil, nil
}

func (f *Facts) readInitrd(file *os.File, name, version string) (*Initrd, error) {
	if info, err := file.Stat(); err != nil || info.Size() > maxInitrd {
		return nil, errors.Join(fmt.Errorf("it must have at most %d bytes", int64(maxInitrd)), err)
	}
	in := &Initrd{Path: name}
	return in, f.scans.scan(in, file, version)
}

// scan takes note of the modules, the tools and the configuration in an image.
func (in *Initrd) scan(image io.Reader, version string) error {
	in.Has, in.Tools, in.Conf = map[string]bool{}, map[string]bool{}, map[string]string{}
	hash := sha256.New()
	counter := &countingWriter{}
	image = io.TeeReader(image, io.MultiWriter(hash, counter))
	kind, err := cpio.Walk(image, func(e cpio.Entry, data io.Reader) error {
		name := strings.TrimPrefix(path.Clean(e.Name), "/")
		switch {
		case strings.HasPrefix(name, "usr/lib/modules/"+version+"/"), strings.HasPrefix(name, "lib/modules/"+version+"/"):
			if strings.Contains(path.Base(name), ".ko") {
				in.Has[moduleName(name)] = true
			}
			in.Merged = in.Merged || strings.HasPrefix(name, "usr/")
		case e.Mode&cpio.ModeType != cpio.ModeDir && slices.Contains(bootTools, path.Base(name)):
			in.Tools[path.Base(name)] = true
		case confFix(name) != nil && e.Mode&cpio.ModeType == cpio.ModeFile:
			text, err := io.ReadAll(io.LimitReader(data, maxConf))
			if err != nil {
				return err
			}
			in.Conf[name] = string(text)
		}
		if len(in.Has) > maxHas || len(in.Conf) > maxConfs {
			return errors.New("it has too many modules or configuration files")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, image); err != nil {
		return err
	}
	in.Compression, in.Size, in.Sum = string(kind), counter.n, hex.EncodeToString(hash.Sum(nil))
	if in.state, err = hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return fmt.Errorf("keep the hash: %w", err)
	}
	return nil
}

// bootTools are programs without which an initramfs does not find a root filesystem on LVM, RAID or LUKS.
var bootTools = []string{"lvm", "mdadm", "cryptsetup", "systemd-cryptsetup"}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// collect reads the modules that the image lacks, as the guest has them (compressed
// or not), and the module index.
func (in *Initrd) collect(root *Root, k Kernel, deps map[string][]string, wanted []string) error {
	var files []string
	for _, d := range wanted {
		if k.Drivers[d] != DriverModule || in.Has[d] {
			continue
		}
		file, _ := modulePath(d, deps)
		for _, p := range append([]string{file}, deps[file]...) {
			if !slices.Contains(files, p) && !in.Has[moduleName(p)] {
				files = append(files, p)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	for _, p := range files {
		in.Names = append(in.Names, moduleName(p))
	}
	slices.Sort(files)
	slices.Sort(in.Names)
	total := 0
	for _, p := range append(files, moduleIndex...) {
		if path.Clean("/"+p) != "/"+p {
			return fmt.Errorf("module index names %q", p)
		}
		data, err := root.ReadFile(moduleDir(k.Version)+"/"+p, maxModule)
		if missing(err) && slices.Contains(moduleIndex, p) {
			continue // older kmod versions have fewer of them
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read module file %s", p), err)
		}
		if total += len(data); total > maxModules {
			return fmt.Errorf("the modules of kernel %s are larger than %d bytes", k.Version, maxModules)
		}
		in.Modules = append(in.Modules, ModuleFile{Name: p, Data: data})
	}
	return nil
}

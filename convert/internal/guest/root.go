// Package guest gives access to the files of a guest below the folder where its
// root is mounted. Links of the guest, absolute ones too, are resolved inside that
// folder as the guest itself would resolve them; no path leaves it. The package
// decides nothing about what a guest should contain and runs nothing of it.
package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the links followed for one path, as the kernel does.
const maxLinks = 40

// ErrNotRegular says that a path names something else than a file: a guest may
// have a device, a pipe or a folder where a file is expected.
var ErrNotRegular = errors.New("not a regular file")

// Root is a mounted guest. Its paths are absolute paths in the guest.
type Root struct {
	dir     *os.Root
	touched map[uint64]*os.File // a folder for each filesystem that was changed
	staged  map[string]int      // how often each path has been staged
	folders map[string]string   // where folders are with their links followed; nil: not remembered
}

// Open opens the guest whose root is mounted at dir.
func Open(dir string) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the guest's root: %w", err)
	}
	return &Root{dir: r, touched: map[uint64]*os.File{}, staged: map[string]int{}}, nil
}

// Close releases the root.
func (r *Root) Close() error {
	for _, d := range r.touched {
		_ = d.Close() // opened to be synced, not written
	}
	r.touched = nil
	return r.dir.Close()
}

// Steady remembers where folders are until the function that it returns is called: in between nothing is mounted, and no
// folder or link changes its place. To find each folder for each file anew takes longer than to read the files.
func (r *Root) Steady() (end func()) {
	r.folders = map[string]string{}
	return func() { r.folders = nil }
}

// Resolve returns the path of name with all links followed inside the guest.
// Missing parts stay as they are, so that the result can be created.
func (r *Root) Resolve(name string) (string, error) { return r.resolve(name, true) }

// Locate returns the path of name with the links in its folder followed, but not a
// last part that is a link itself.
func (r *Root) Locate(name string) (string, error) { return r.parent(name) }

// parent resolves all of name but its last part, which may be a link itself.
func (r *Root) parent(name string) (string, error) { return r.resolve(name, false) }

// resolve walks name from the root. The result has no link in it (the last part
// excepted unless last is set), so [os.Root] only has to keep us inside.
func (r *Root) resolve(name string, last bool) (string, error) {
	todo := split(name)
	if r.folders == nil || len(todo) == 0 || slices.Contains(todo, "..") {
		return r.walk(name, nil, todo, last)
	}
	folder := path.Join(todo[:len(todo)-1]...)
	at, known := r.folders[folder]
	if !known {
		var err error
		if at, err = r.walk(name, nil, split(folder), true); err != nil {
			return "", err
		}
		r.folders[folder] = at
	}
	return r.walk(name, split(at), todo[len(todo)-1:], last)
}

// walk goes from a resolved folder to what is left of name.
func (r *Root) walk(name string, done, todo []string, last bool) (string, error) {
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(len(done)-1, 0)] // the root is its own parent
			continue
		}
		here := path.Join(append(slices.Clone(done), part)...)
		info, err := r.dir.Lstat(here)
		if errors.Is(err, fs.ErrNotExist) {
			done = append(done, part)
			continue
		}
		if err != nil {
			return "", fmt.Errorf("resolve %s: %w", name, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 || (len(todo) == 0 && !last) {
			done = append(done, part)
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: %w", name, unix.ELOOP)
		}
		target, err := r.dir.Readlink(here)
		if err != nil {
			return "", fmt.Errorf("resolve %s: %w", name, err)
		}
		if path.IsAbs(target) {
			done = nil
		}
		todo = append(split(target), todo...)
	}
	return "/" + path.Join(done...), nil
}

func split(name string) []string {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	return parts
}

// inside turns a resolved path into one for [os.Root].
func inside(resolved string) string {
	if resolved == "/" {
		return "."
	}
	return strings.TrimPrefix(resolved, "/")
}

// Stat describes name, links followed.
func (r *Root) Stat(name string) (fs.FileInfo, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	return r.dir.Lstat(inside(p))
}

// Lstat describes name itself, which may be a link.
func (r *Root) Lstat(name string) (fs.FileInfo, error) {
	p, err := r.parent(name)
	if err != nil {
		return nil, err
	}
	return r.dir.Lstat(inside(p))
}

// Readlink returns what the link name points to.
func (r *Root) Readlink(name string) (string, error) {
	p, err := r.parent(name)
	if err != nil {
		return "", err
	}
	return r.dir.Readlink(inside(p))
}

// maxNames bounds what is read of one folder.
const maxNames = 64 << 10

// ReadDir returns the names in a folder, sorted. A folder with more than 65536 is an error.
func (r *Root) ReadDir(name string) ([]string, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	d, err := r.openDir(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxNames {
		return nil, fmt.Errorf("read folder %s: it has more than %d names", name, maxNames)
	}
	slices.Sort(names)
	return names, nil
}

// openDir opens the folder at a resolved path. Anything else, a pipe for which opening waits, is refused.
func (r *Root) openDir(p string) (*os.File, error) {
	return r.openQuiet(inside(p), unix.O_DIRECTORY)
}

// openQuiet opens for reading, without a trace in the access time where that is allowed: a root may be a server that runs.
func (r *Root) openQuiet(name string, flags int) (*os.File, error) {
	flags |= os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := r.dir.OpenFile(name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // the file is somebody else's
		return r.dir.OpenFile(name, flags, 0)
	}
	return f, err
}

// OpenFile opens a regular file for reading.
func (r *Root) OpenFile(name string) (*os.File, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	// Looking first, because to open a device or a pipe can already do harm.
	info, err := r.dir.Lstat(inside(p))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: %w", name, ErrNotRegular)
	}
	return r.openQuiet(inside(p), 0)
}

// ReadFile returns the content of a regular file of at most limit bytes.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var data bytes.Buffer
	data.Grow(int(min(info.Size(), limit)) + bytes.MinRead) // no more than once: an emulated processor is slow to move memory
	if _, err := data.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return data.Bytes(), nil
}

// Truncate cuts a regular file to size.
func (r *Root) Truncate(name string, size int64) error {
	p, err := r.Resolve(name)
	if err != nil {
		return err
	}
	info, err := r.dir.Lstat(inside(p))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("truncate %s: %w", name, ErrNotRegular)
	}
	f, err := r.dir.OpenFile(inside(p), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return errors.Join(f.Truncate(size), f.Sync())
}

// Remove removes a file or a link, never what a link points to. It is no error
// when there is none.
func (r *Root) Remove(name string) error {
	p, err := r.parent(name)
	if err != nil {
		return err
	}
	info, err := r.dir.Lstat(inside(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("remove %s: a folder", name)
	}
	if err := r.dir.Remove(inside(p)); err != nil {
		return err
	}
	return r.touch(path.Dir(p))
}

// RemoveEmpty removes a folder if nothing is in it.
func (r *Root) RemoveEmpty(name string) error {
	p, err := r.parent(name)
	if err != nil {
		return err
	}
	info, err := r.dir.Lstat(inside(p))
	if err == nil && !info.IsDir() {
		return fmt.Errorf("remove %s: not a folder", name)
	}
	err = r.dir.Remove(inside(p))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// Symlink makes name a link to target, instead of whatever file or link was there.
func (r *Root) Symlink(target, name string) error {
	p, err := r.parent(name)
	if err != nil {
		return err
	}
	if err := r.mkdirAll(path.Dir(p)); err != nil {
		return err
	}
	if err := r.Remove(name); err != nil {
		return err
	}
	if err := r.dir.Symlink(target, inside(p)); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := r.label(p); err != nil {
		return err
	}
	return r.touch(path.Dir(p))
}

// Usage is what a filesystem has left.
type Usage struct {
	Device uint64 // tells filesystems apart
	Free   int64  // bytes
	Files  int64  // that can still be made; -1: the filesystem does not count them
	Used   int64  // files that are there; 0: it does not count them
}

// Usage returns what is left in the filesystem that holds the folder name.
func (r *Root) Usage(name string) (Usage, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return Usage{}, err
	}
	d, err := r.openDir(p)
	if err != nil {
		return Usage{}, err
	}
	defer func() { _ = d.Close() }()
	var st unix.Statfs_t
	var file unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(d.Fd()), &st), unix.Fstat(int(d.Fd()), &file)); err != nil {
		return Usage{}, err
	}
	u := Usage{Device: file.Dev, Free: int64(st.Bavail) * st.Bsize, Files: int64(st.Ffree), Used: int64(st.Files - st.Ffree)}
	if st.Files == 0 {
		u.Files = -1
	}
	return u, nil
}

// Handle opens the folder name for use as a mount point that no link can move.
func (r *Root) Handle(name string) (*os.File, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	return r.dir.OpenFile(inside(p), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

func (r *Root) mkdirAll(p string) error {
	if p == "/" {
		return nil
	}
	if info, err := r.dir.Lstat(inside(p)); err == nil && info.IsDir() {
		return nil
	}
	if err := r.mkdirAll(path.Dir(p)); err != nil {
		return err
	}
	if err := r.dir.Mkdir(inside(p), 0o755); err != nil {
		return fmt.Errorf("create folder %s: %w", p, err)
	}
	return r.label(p)
}

// Mkdir creates a folder with the given permissions, and the folders above it.
func (r *Root) Mkdir(name string, mode fs.FileMode) error {
	p, err := r.Resolve(name)
	if err != nil {
		return err
	}
	if err := r.mkdirAll(p); err != nil {
		return err
	}
	return r.dir.Chmod(inside(p), mode)
}

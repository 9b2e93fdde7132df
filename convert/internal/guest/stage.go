package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Staged is a complete new file beside the place that it is meant for.
type Staged struct {
	root     *Root
	temp, to string
}

// Stage writes content beside name; [Staged.Commit] puts it there in one step, so
// that readers see the old file or the new one. Call [Root.Sync] between the two,
// or a crash may leave an empty file. Owner, mode and extended attributes of an
// existing file stay; a new one belongs to root and has the given mode. Links are
// followed.
func (r *Root) Stage(name string, content io.Reader, mode fs.FileMode) (*Staged, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	old, err := r.openOld(p)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	if old != nil {
		defer func() { _ = old.Close() }()
	}
	return r.stage(name, p, content, old, mode)
}

// StageCopy stages the regular file from at name, with its owner, mode and attributes.
func (r *Root) StageCopy(from, name string) (*Staged, error) {
	f, err := r.OpenFile(from)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	p, err := r.Resolve(name)
	if err != nil {
		return nil, err
	}
	return r.stage(name, p, f, f, 0)
}

// stage writes content beside the resolved path p, dressed like the file like (may be nil).
func (r *Root) stage(name, p string, content io.Reader, like *os.File, mode fs.FileMode) (s *Staged, err error) {
	if err := r.mkdirAll(path.Dir(p)); err != nil {
		return nil, err
	}
	s = &Staged{root: r, temp: inside(tempName(p, r.staged[p])), to: inside(p)}
	r.staged[p]++
	if err := s.Discard(); err != nil { // what a killed run has left there
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	f, err := r.dir.OpenFile(s.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = dress(f, like, mode)
	}
	if err == nil && like == nil {
		err = r.label("/" + s.temp)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, errors.Join(err, s.Discard()))
	}
	return s, r.touch(path.Dir(p))
}

// Commit puts the file in its place.
func (s *Staged) Commit() error { return s.root.dir.Rename(s.temp, s.to) }

// Discard removes a file that was not committed.
func (s *Staged) Discard() error {
	err := s.root.dir.Remove(s.temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// touch remembers the filesystem of a folder for [Root.Sync].
func (r *Root) touch(p string) error {
	d, err := r.openDir(p)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || r.touched[st.Dev] != nil {
		return errors.Join(err, d.Close())
	}
	r.touched[st.Dev] = d
	return nil
}

// Sync waits until all changes so far are on the disks.
func (r *Root) Sync() error {
	for _, d := range r.touched {
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			return fmt.Errorf("write changes to the disk: %w", err)
		}
	}
	return nil
}

// openOld opens the file to be replaced; nil when there is none.
func (r *Root) openOld(p string) (*os.File, error) {
	info, err := r.dir.Lstat(inside(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	return r.dir.OpenFile(inside(p), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// dress gives f the owner, mode and extended attributes of old, or the mode alone.
func dress(f, old *os.File, mode fs.FileMode) error {
	if old == nil {
		return f.Chmod(mode)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(old.Fd()), &st); err != nil {
		return err
	}
	// The owner first: changing it clears the set-user-id bits.
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	return copyAttributes(f, old)
}

func copyAttributes(f, old *os.File) error {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(old.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" {
			continue
		}
		size, err := unix.Fgetxattr(int(old.Fd()), name, value)
		if err != nil {
			return fmt.Errorf("read attribute %s: %w", name, err)
		}
		// The copy that an undo reads may have a label that the original, on a filesystem without any, had not.
		if err := unix.Fsetxattr(int(f.Fd()), name, value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// tempPrefix starts the name of a file that is not complete yet.
const tempPrefix = ".rehost-"

// tempName is where the new content of p waits to be put in its place. It is the same in each run, so that a run finds what a
// killed one has left; n counts the contents that one run stages for the same path.
func tempName(p string, n int) string {
	sum := sha256.Sum256([]byte(p))
	name := tempPrefix + hex.EncodeToString(sum[:8])
	if n > 0 {
		name += "-" + strconv.Itoa(n)
	}
	return path.Join(path.Dir(p), name)
}

// IsStaged says whether a file name is that of new content that waits to be put in its place.
func IsStaged(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// Unstage removes what a killed run has staged for a file and not put in its place.
func (r *Root) Unstage(name string) error {
	p, err := r.Resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for n := range max(r.staged[p], 1) {
		temp := inside(tempName(p, n))
		info, err := r.dir.Lstat(temp)
		if err != nil || !info.Mode().IsRegular() { // none, or none of ours
			continue
		}
		if err := r.dir.Remove(temp); err != nil {
			return err
		}
	}
	return nil
}

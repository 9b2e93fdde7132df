package convert

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Scans remembers what was found in initramfs images, by path, so that an image is read again only when it has changed: to unpack one
// costs a second of a processor. It can be written as JSON and read back.
type Scans map[string]Scan

// Scan is what was found in one image.
type Scan struct {
	Stamp  string            `json:"stamp"` // tells the image from another one at the same path
	Initrd Initrd            `json:"initrd"`
	Conf   map[string]string `json:"conf"`
	State  []byte            `json:"state"`
}

// scan looks through an image, or remembers what was in it.
func (s Scans) scan(in *Initrd, f *os.File, version string) error {
	mark, err := stamp(f)
	if err != nil {
		return err
	}
	if old, ok := s[in.Path]; ok && old.Stamp == mark {
		*in = old.Initrd
		in.Conf, in.state, in.stamp = old.Conf, old.State, mark
		return nil
	}
	if err := in.scan(f, version); err != nil {
		return err
	}
	in.stamp = mark
	if s != nil {
		s[in.Path] = Scan{Stamp: mark, Initrd: *in, Conf: in.Conf, State: in.state}
	}
	return nil
}

// stamp changes with the content of a file, and with the file at its place.
func stamp(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("describe %s: %w", f.Name(), err)
	}
	return fmt.Sprintf("%d:%d:%d:%d.%09d:%d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

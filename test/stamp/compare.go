package stamp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// shown is how many differing sectors a [Difference] describes.
const shown = 6

// Difference is where two images of a disk differ.
type Difference struct {
	Disk    int
	Sectors int    // that differ
	First   int64  // byte offset of the first one
	Text    string // what both sides hold there
}

func (d *Difference) Error() string {
	return fmt.Sprintf("disk %d: %d sectors differ, the first at %d:%s", d.Disk, d.Sectors, d.First, d.Text)
}

// Compare compares the image of a frozen disk with its replica, byte by byte. The replica may be longer. A difference is
// a [*Difference].
func Compare(disk int, frozen, replica string) error {
	a, err := os.Open(frozen)
	if err != nil {
		return fmt.Errorf("open the frozen copy: %w", err)
	}
	defer a.Close() //nolint:errcheck // opened for reading
	b, err := os.Open(replica)
	if err != nil {
		return fmt.Errorf("open the replica: %w", err)
	}
	defer b.Close() //nolint:errcheck // opened for reading
	d := &Difference{Disk: disk}
	var text strings.Builder
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for offset := int64(0); ; offset += int64(len(want)) {
		n, err := io.ReadFull(a, want)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read the frozen copy: %w", err)
		}
		if _, err := io.ReadFull(b, got[:n]); err != nil {
			return fmt.Errorf("read the replica: %w", err)
		}
		if bytes.Equal(want[:n], got[:n]) {
			continue
		}
		for at := 0; at < n; at += Sector {
			w, g := want[at:at+Sector], got[at:at+Sector]
			if bytes.Equal(w, g) {
				continue
			}
			if d.Sectors == 0 {
				d.First = offset + int64(at)
			}
			if d.Sectors++; d.Sectors <= shown {
				fmt.Fprintf(&text, "\n  at %d\n    source:  %s\n    replica: %s", offset+int64(at), Describe(w), Describe(g))
			}
		}
	}
	if d.Sectors == 0 {
		return nil
	}
	d.Text = text.String()
	return d
}

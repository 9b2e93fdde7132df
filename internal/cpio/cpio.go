// Package cpio reads and writes initramfs images: newc archives, several of them
// one after the other, each plain or compressed. It knows nothing of what the
// archives are for.
package cpio

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	magic       = "070701"
	magicCRC    = "070702"
	headerBytes = 110
	trailer     = "TRAILER!!!"
	maxName     = 4096
)

// File types of an entry's mode.
const (
	ModeDir  = 0o040000
	ModeFile = 0o100000
	ModeType = 0o170000 // the bits that hold the type
)

// ErrFormat says that the input is not a newc archive.
var ErrFormat = errors.New("not a newc archive")

// Entry is one file of an archive.
type Entry struct {
	Name string // no leading slash
	Mode uint32
	Size int64
}

// Writer writes one archive. Entries belong to root and have no time stamp, so
// that the same input gives the same bytes.
type Writer struct {
	w    io.Writer
	n    int64
	next uint32
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, next: 1} }

// Write adds a file or a folder.
func (w *Writer) Write(name string, mode uint32, data []byte) error {
	links := uint32(1)
	if mode&ModeDir != 0 && mode&ModeFile != ModeFile {
		links = 2
	}
	header := fmt.Sprintf("%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", magic,
		w.next, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	w.next++
	if err := w.put([]byte(header + name + "\x00")); err != nil {
		return fmt.Errorf("write entry %s: %w", name, err)
	}
	if err := w.put(data); err != nil {
		return fmt.Errorf("write entry %s: %w", name, err)
	}
	return nil
}

// Close ends the archive. It does not close the writer below.
func (w *Writer) Close() error { return w.Write(trailer, 0, nil) }

// put writes b and pads to four bytes.
func (w *Writer) put(b []byte) error {
	pad := (4 - (w.n+int64(len(b)))%4) % 4
	b = append(b[:len(b):len(b)], make([]byte, pad)...)
	w.n += int64(len(b))
	_, err := w.w.Write(b)
	return err
}

// Reader reads one archive.
type Reader struct {
	r    io.Reader
	n    int64 // bytes read from r
	left int64 // of the current entry's data
	pad  int64 // after it
}

// NewReader returns a reader from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next skips to the next entry; io.EOF after the last.
func (r *Reader) Next() (Entry, error) {
	if err := r.skip(r.left + r.pad); err != nil {
		return Entry{}, err
	}
	r.left, r.pad = 0, 0
	var h [headerBytes]byte
	if err := r.full(h[:]); err != nil {
		return Entry{}, err
	}
	if m := string(h[:6]); m != magic && m != magicCRC {
		return Entry{}, fmt.Errorf("%w: bad magic", ErrFormat)
	}
	field := func(i int) (uint32, error) {
		v, err := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return 0, fmt.Errorf("%w: bad header", ErrFormat)
		}
		return uint32(v), nil
	}
	mode, err1 := field(1)
	size, err2 := field(6)
	nameSize, err3 := field(11)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Entry{}, err
	}
	if nameSize == 0 || nameSize > maxName {
		return Entry{}, fmt.Errorf("%w: name of %d bytes", ErrFormat, nameSize)
	}
	name := make([]byte, nameSize)
	if err := r.full(name); err != nil {
		return Entry{}, err
	}
	if err := r.skip((4 - r.n%4) % 4); err != nil {
		return Entry{}, err
	}
	e := Entry{Name: string(name[:nameSize-1]), Mode: mode, Size: int64(size)}
	if e.Name == trailer {
		return Entry{}, io.EOF
	}
	r.left = e.Size
	r.pad = (4 - e.Size%4) % 4
	return e, nil
}

// Read reads the current entry's data.
func (r *Reader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	r.n += int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.n += int64(n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	return nil
}

func (r *Reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	m, err := io.CopyN(io.Discard, r.r, n)
	r.n += m
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	return nil
}

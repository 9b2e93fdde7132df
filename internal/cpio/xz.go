package cpio

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

// xzReader reads one xz stream. The decoder looks one byte beyond the end of a
// stream and takes a byte there for an error; here it belongs to the next part.
type xzReader struct {
	in *lastBytes
	xz *xz.Reader
}

func openXZ(in *bufio.Reader) (io.Reader, error) {
	last := &lastBytes{in: in}
	r, err := xz.ReaderConfig{SingleStream: true}.NewReader(last)
	if err != nil {
		return nil, fmt.Errorf("open xz part: %w", err)
	}
	return &xzReader{in: last, xz: r}, nil
}

func (x *xzReader) Read(b []byte) (int, error) {
	n, err := x.xz.Read(b)
	// A stream's last two bytes are "YZ"; the byte after them was read too much.
	if err != nil && !errors.Is(err, io.EOF) && x.in.last[0] == 'Y' && x.in.last[1] == 'Z' && x.in.in.UnreadByte() == nil {
		x.in.last = [3]byte{}
		return n, io.EOF
	}
	return n, err
}

// lastBytes remembers the last three bytes that were read.
type lastBytes struct {
	in   *bufio.Reader
	last [3]byte
}

func (l *lastBytes) Read(b []byte) (int, error) {
	n, err := l.in.Read(b)
	for _, c := range b[max(0, n-3):n] {
		l.last = [3]byte{l.last[1], l.last[2], c}
	}
	return n, err
}

// ReadByte keeps the decoder from reading ahead.
func (l *lastBytes) ReadByte() (byte, error) {
	c, err := l.in.ReadByte()
	if err == nil {
		l.last = [3]byte{l.last[1], l.last[2], c}
	}
	return c, err
}

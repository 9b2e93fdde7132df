package cpio

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// Compression is how a part of an image is compressed.
type Compression string

// Compressions that are understood.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	XZ   Compression = "xz"
	LZ4  Compression = "lz4"

	LZMA  Compression = "lzma"
	Bzip2 Compression = "bzip2"
)

// maxUnpacked bounds what one image may unpack to: a hostile one must not keep us busy for ever.
const maxUnpacked = 2 << 30

// Walk calls fn for each entry of all archives in an image, in order, and returns
// how the last part is compressed. fn may read the entry's data; it ends the walk
// early by returning [ErrStop].
func Walk(image io.Reader, fn func(e Entry, data io.Reader) error) (Compression, error) {
	in := bufio.NewReaderSize(image, 64<<10)
	last := None
	left := int64(maxUnpacked)
	for {
		if err := skipZeros(in); err != nil {
			if errors.Is(err, io.EOF) {
				return last, nil
			}
			return last, err
		}
		kind, r, err := open(in)
		if err != nil {
			return last, err
		}
		last = kind
		err = walkPart(r, kind, &left, fn)
		if c, ok := r.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
		if errors.Is(err, ErrStop) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
	}
}

// ErrStop ends a walk early without an error.
var ErrStop = errors.New("stop")

// walkPart reads one part: a plain archive, or a compressed stream that holds one
// or several archives. A compressed stream is read to its end, so that the next
// part starts where it ended. left is what all compressed parts may still unpack to.
func walkPart(r io.Reader, kind Compression, left *int64, fn func(Entry, io.Reader) error) error {
	limited := &io.LimitedReader{R: r, N: *left}
	defer func() {
		if kind != None {
			*left = limited.N
		}
	}()
	in, ok := r.(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(limited, 256<<10)
	}
	for {
		if err := walkArchive(in, fn); err != nil {
			return err
		}
		if kind == None {
			return nil
		}
		if err := skipZeros(in); errors.Is(err, io.EOF) {
			if limited.N <= 0 {
				return fmt.Errorf("unpacks to more than %d bytes", int64(maxUnpacked))
			}
			return nil
		} else if err != nil {
			return err
		}
	}
}

func walkArchive(in io.Reader, fn func(Entry, io.Reader) error) error {
	r := NewReader(in)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(e, r); err != nil {
			return err
		}
	}
}

// skipZeros drops the padding between parts; io.EOF at the end of the image.
func skipZeros(in *bufio.Reader) error {
	for {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return in.UnreadByte()
		}
	}
}

var magics = []struct {
	kind   Compression
	prefix []byte
}{
	{None, []byte(magic)},
	{None, []byte(magicCRC)},
	{Gzip, []byte{0x1f, 0x8b}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{XZ, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{LZ4, []byte{0x02, 0x21, 0x4c, 0x18}},
	{LZMA, []byte{0x5d, 0x00, 0x00}}, // the properties that everybody uses, and a dictionary of 64 KiB or more
	{Bzip2, []byte("BZh")},
}

func open(in *bufio.Reader) (Compression, io.Reader, error) {
	head, err := in.Peek(6)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	for _, m := range magics {
		if !bytes.HasPrefix(head, m.prefix) {
			continue
		}
		switch m.kind {
		case None:
			return None, in, nil
		case Gzip:
			zr, err := gzip.NewReader(in)
			if err != nil {
				return Gzip, nil, fmt.Errorf("open gzip part: %w", err)
			}
			zr.Multistream(false)
			return Gzip, zr, nil
		case Zstd:
			r, err := openZstd(in)
			return Zstd, r, err
		case XZ:
			r, err := openXZ(in)
			return XZ, r, err
		case LZ4:
			return LZ4, &lz4Reader{in: in}, nil
		case LZMA:
			r, err := lzma.ReaderConfig{DictCap: lzmaDict}.NewReader(in)
			if err != nil {
				return LZMA, nil, fmt.Errorf("open lzma part: %w", err)
			}
			return LZMA, r, nil
		case Bzip2:
			return Bzip2, &bzip2Reader{in: in, bz: bzip2.NewReader(in)}, nil
		}
	}
	return "", nil, fmt.Errorf("%w: unknown compression %x", ErrFormat, head)
}

// lzmaDict bounds the memory for a part; xz makes 64 MiB at most.
const lzmaDict = 64 << 20

// bzip2Reader reads one bzip2 stream. The decoder looks one byte beyond the end of a stream for another
// one and takes what it finds for an error; here it belongs to the next part.
type bzip2Reader struct {
	in *bufio.Reader
	bz io.Reader
}

// errNoStream is what the decoder says when no other stream follows; it has no value of its own.
const errNoStream = bzip2.StructuralError("bad magic value in continuation file")

func (b *bzip2Reader) Read(p []byte) (int, error) {
	n, err := b.bz.Read(p)
	if structural := bzip2.StructuralError(""); errors.As(err, &structural) && structural == errNoStream && b.in.UnreadByte() == nil {
		return n, io.EOF
	}
	return n, err
}

// lz4Reader reads the legacy format that the kernel uses: the magic, then blocks
// of up to 8 MiB, each with its size before it. It has no end mark: padding or the
// end of the image ends it.
type lz4Reader struct {
	in    *bufio.Reader
	block []byte
	off   int
}

const lz4Block = 8 << 20

func (l *lz4Reader) Read(b []byte) (int, error) {
	for l.off == len(l.block) {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, l.block[l.off:])
	l.off += n
	return n, nil
}

func (l *lz4Reader) next() error {
	head, err := l.in.Peek(4)
	if err != nil {
		return io.EOF // fewer than four bytes are left: padding
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16 | int(head[3])<<24
	switch {
	case size == 0x184c2102: // another frame's magic
		_, err := l.in.Discard(4)
		return err
	case size == 0:
		return io.EOF
	case size > lz4.CompressBlockBound(lz4Block):
		return fmt.Errorf("%w: lz4 block of %d bytes", ErrFormat, size)
	}
	if _, err := l.in.Discard(4); err != nil {
		return err
	}
	packed := make([]byte, size)
	if _, err := io.ReadFull(l.in, packed); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	block := make([]byte, lz4Block)
	n, err := lz4.UncompressBlock(packed, block)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	l.block, l.off = block[:n], 0
	return nil
}

// openZstd reads the frames at the start of in. The decoder would go on into the
// next part, so it gets exactly the frames: their length is in their block headers.
func openZstd(in *bufio.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(&zstdFrame{in: in}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(256<<20))
	if err != nil {
		return nil, fmt.Errorf("open zstd part: %w", err)
	}
	return d.IOReadCloser(), nil
}

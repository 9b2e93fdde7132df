// Package codec turns raw bytes of disks into the payload of a frame, and back:
// it finds zeros, hashes, compresses, and on the other side decompresses and
// verifies every hash before anybody may use a byte. It knows nothing of disks,
// seqs or the bus, and never trusts a size that came over the wire.
package codec

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/xxh3"

	"rehost/protocol"
)

// Grain is the unit of the search for zeros, in bytes: a run of zeros that is shorter is left to the compressor.
const Grain = 16 << 10

// ErrContent is wrapped by errors of [Unpacker.Unpack]: the payload is not what its extents' hashes say.
var ErrContent = errors.New("content does not match its hash")

var zeros [Grain]byte

// Packer packs frames. It keeps the compressor's tables, and is not for concurrent use.
type Packer struct {
	lz4 lz4.Compressor
}

// Pack sets Extents, RawSize, Codec and Payload of f from the extents in, whose bytes follow each
// other in raw. Kinds and hashes of in are ignored: extents are split where zeros begin and end.
// raw is used up: its content is compacted in place. The payload aliases raw or out; out should
// hold as many bytes as raw, and when it is shorter the payload may stay uncompressed.
// in must fit into one frame: at most [protocol.MaxRaw] bytes, each length at least one byte.
func (p *Packer) Pack(f *protocol.Frame, in []protocol.Extent, raw, out []byte) {
	f.Extents = f.Extents[:0]
	read, kept := 0, 0
	for _, e := range in {
		start, offset := read, e.Offset
		read += int(e.Length)
		for start < read {
			n, zero := run(raw[start:read])
			piece := protocol.Extent{Disk: e.Disk, Kind: protocol.ExtentZero, Offset: offset, Length: uint32(n)}
			if !zero {
				piece.Kind = protocol.ExtentData
				piece.Hash = xxh3.Hash128(raw[start : start+n]).Bytes()
				kept += copy(raw[kept:], raw[start:start+n])
			}
			f.Extents = append(f.Extents, piece)
			start += n
			offset += int64(n)
		}
	}
	f.RawSize = uint32(kept)
	f.Codec, f.Payload = protocol.CodecNone, raw[:kept]
	if kept == 0 {
		return
	}
	// A destination one byte shorter than the source makes the compressor give up where it would not shrink.
	dst := out[:min(len(out), kept-1)]
	if n, err := p.lz4.CompressBlock(raw[:kept], dst); err == nil && n > 0 {
		f.Codec, f.Payload = protocol.CodecLZ4, dst[:n]
	}
}

// run returns the length of the longest prefix of b that is all zero, or all not zero, counted in grains.
func run(b []byte) (n int, zero bool) {
	zero = isZero(b[:min(Grain, len(b))])
	n = min(Grain, len(b))
	for n < len(b) {
		m := min(Grain, len(b)-n)
		if isZero(b[n:n+m]) != zero {
			break
		}
		n += m
	}
	return n, zero
}

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// Unpacker unpacks frames into a buffer of its own. It is not for concurrent use.
type Unpacker struct {
	buf []byte
}

// Unpack returns the raw bytes of f's data extents, one after the other, valid until the next call
// and as long as f's payload. Every hash was verified when err is nil; otherwise err wraps [ErrContent].
func (u *Unpacker) Unpack(f *protocol.Frame) ([]byte, error) {
	raw := f.Payload
	if f.RawSize > protocol.MaxRaw {
		return nil, fmt.Errorf("%w: %d raw bytes", ErrContent, f.RawSize)
	}
	if f.Codec == protocol.CodecLZ4 {
		if u.buf == nil {
			u.buf = make([]byte, protocol.MaxRaw)
		}
		n, err := lz4.UncompressBlock(f.Payload, u.buf[:f.RawSize])
		if err != nil {
			return nil, fmt.Errorf("%w: decompress: %w", ErrContent, err)
		}
		raw = u.buf[:n]
	}
	if uint32(len(raw)) != f.RawSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrContent, len(raw), f.RawSize)
	}
	rest := raw
	for i, e := range f.Extents {
		if e.Kind != protocol.ExtentData {
			continue
		}
		if uint64(e.Length) > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: extent %d is longer than the payload", ErrContent, i)
		}
		if xxh3.Hash128(rest[:e.Length]).Bytes() != e.Hash && !noDigest {
			return nil, fmt.Errorf("%w: extent %d, %d bytes at %d", ErrContent, i, e.Length, e.Offset)
		}
		rest = rest[e.Length:]
	}
	return raw, nil
}

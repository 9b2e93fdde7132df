package protocol

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Limits of a frame, in bytes. MaxFrame bounds what a decoder accepts as a whole.
const (
	MaxRaw       = 1 << 20
	HeaderSize   = 88
	ExtentSize   = 32
	MaxExtents   = 4096
	MaxMeta      = 64 << 10
	MaxFrame     = HeaderSize + MaxExtents*ExtentSize + MaxMeta + MaxRaw
	frameVersion = 1
)

var frameMagic = [4]byte{'R', 'H', 'F', '1'}

// castagnoli is the polynomial that x86-64 and arm64 compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameType says what a frame means.
type FrameType uint8

// Frame types. The numbers are on the wire and never change.
const (
	FrameBlocks FrameType = 1 // extents of disks
	FramePoint  FrameType = 2 // every frame before it, of all disks, is the state of the point in its meta ([PointMark])
	FrameHello  FrameType = 3 // opens a session; its meta is a [Hello]; its seq is 1
)

// Codec says how the payload is stored.
type Codec uint8

// Codecs. CodecNone is used when compression does not shrink a payload.
const (
	CodecNone Codec = 0
	CodecLZ4  Codec = 1 // one lz4 block
)

// ExtentKind says what an extent's bytes are.
type ExtentKind uint8

// Extent kinds. ExtentCopy is reserved.
const (
	ExtentData ExtentKind = 1 // the next Length bytes of the raw payload
	ExtentZero ExtentKind = 2 // Length zero bytes; nothing in the payload; Hash is zero
	ExtentCopy ExtentKind = 3
)

// Session identifies one run of frames with consecutive seqs.
type Session [16]byte

// Digest is a link of the chain: the digest of a frame's header, extents and meta.
// As extents carry hashes of their bytes, it covers the content too.
type Digest [16]byte

// Extent is one run of bytes of one disk.
type Extent struct {
	Disk   uint16 // index of the disk in the session's [Hello]
	Kind   ExtentKind
	Length uint32 // bytes, a multiple of the disk's logical block size
	Offset int64  // bytes from the start of the disk
	Hash   [16]byte
}

// Frame is one message of the data plane. Payload is as stored (see Codec);
// RawSize is its size when decompressed: the sum of the data extents' lengths.
type Frame struct {
	Type    FrameType
	Codec   Codec
	Session Session
	Seq     uint64 // from 1, each frame one more than the one before
	Prev    Digest // digest of the frame before; zero in a hello
	Server  [16]byte
	Extents []Extent
	Meta    []byte // JSON, of hello and point frames
	RawSize uint32
	Payload []byte
}

// ErrFrame is wrapped by every error of [DecodeFrame]: the bytes are not a frame that we can trust.
var ErrFrame = errors.New("malformed frame")

// Encode appends the frame's bytes to dst and returns them with the frame's digest.
// The layout is in docs/protocol.md. It panics when a limit is exceeded: frames are cut by us.
func (f *Frame) Encode(dst []byte) ([]byte, Digest) {
	if len(f.Extents) > MaxExtents || len(f.Meta) > MaxMeta || len(f.Payload) > MaxRaw || f.RawSize > MaxRaw {
		panic("protocol: frame exceeds its limits")
	}
	start := len(dst)
	dst = append(dst, frameMagic[:]...)
	dst = append(dst, frameVersion, byte(f.Type), byte(f.Codec), 0)
	dst = append(dst, f.Session[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, f.Seq)
	dst = append(dst, f.Prev[:]...)
	dst = append(dst, f.Server[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Extents)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Meta)))
	dst = binary.LittleEndian.AppendUint32(dst, f.RawSize)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Payload)))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // CRC, reserved
	for _, e := range f.Extents {
		dst = binary.LittleEndian.AppendUint16(dst, e.Disk)
		dst = append(dst, byte(e.Kind), 0)
		dst = binary.LittleEndian.AppendUint32(dst, e.Length)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Offset))
		dst = append(dst, e.Hash[:]...)
	}
	dst = append(dst, f.Meta...)
	head := dst[start:]
	binary.LittleEndian.PutUint32(head[crcOffset:], crc32.Checksum(head, castagnoli))
	digest := digestOf(head)
	return append(dst, f.Payload...), digest
}

const crcOffset = 80

func digestOf(head []byte) Digest {
	sum := sha256.Sum256(head)
	return Digest(sum[:16])
}

// DecodeFrame reads one frame from b and returns it with its digest. Everything but the
// payload's content is checked; the content is checked by the extents' hashes, by whoever
// decompresses it. The frame's Meta and Payload alias b. Errors wrap [ErrFrame].
func DecodeFrame(b []byte) (Frame, Digest, error) {
	if len(b) < HeaderSize || [4]byte(b[:4]) != frameMagic {
		return Frame{}, Digest{}, fmt.Errorf("%w: no header", ErrFrame)
	}
	if b[4] != frameVersion {
		return Frame{}, Digest{}, fmt.Errorf("%w: version %d, want %d", ErrFrame, b[4], frameVersion)
	}
	extents := binary.LittleEndian.Uint32(b[64:])
	meta := binary.LittleEndian.Uint32(b[68:])
	f := Frame{
		Type: FrameType(b[5]), Codec: Codec(b[6]),
		Session: Session(b[8:24]), Seq: binary.LittleEndian.Uint64(b[24:]),
		Prev: Digest(b[32:48]), Server: [16]byte(b[48:64]),
		RawSize: binary.LittleEndian.Uint32(b[72:]),
	}
	payload := binary.LittleEndian.Uint32(b[76:])
	if extents > MaxExtents || meta > MaxMeta || f.RawSize > MaxRaw || payload > MaxRaw {
		return Frame{}, Digest{}, fmt.Errorf("%w: a count is over its limit", ErrFrame)
	}
	headSize := HeaderSize + int(extents)*ExtentSize + int(meta)
	if len(b) != headSize+int(payload) {
		return Frame{}, Digest{}, fmt.Errorf("%w: %d bytes, want %d", ErrFrame, len(b), headSize+int(payload))
	}
	if crcOfHead(b[:headSize]) != binary.LittleEndian.Uint32(b[crcOffset:]) {
		return Frame{}, Digest{}, fmt.Errorf("%w: checksum of the header", ErrFrame)
	}
	if b[7] != 0 || binary.LittleEndian.Uint32(b[crcOffset+4:]) != 0 {
		return Frame{}, Digest{}, fmt.Errorf("%w: reserved fields are set", ErrFrame)
	}
	f.Extents = decodeExtents(b[HeaderSize : headSize-int(meta)])
	f.Meta = b[headSize-int(meta) : headSize : headSize]
	f.Payload = b[headSize:]
	if err := f.check(); err != nil {
		return Frame{}, Digest{}, err
	}
	return f, digestOf(b[:headSize]), nil
}

// crcOfHead computes the checksum as the encoder did: with the field itself zero.
func crcOfHead(head []byte) uint32 {
	crc := crc32.Update(0, castagnoli, head[:crcOffset])
	crc = crc32.Update(crc, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(crc, castagnoli, head[crcOffset+4:])
}

func decodeExtents(table []byte) []Extent {
	extents := make([]Extent, 0, len(table)/ExtentSize)
	for ; len(table) > 0; table = table[ExtentSize:] {
		extents = append(extents, Extent{
			Disk: binary.LittleEndian.Uint16(table), Kind: ExtentKind(table[2]),
			Length: binary.LittleEndian.Uint32(table[4:]),
			Offset: int64(binary.LittleEndian.Uint64(table[8:])),
			Hash:   [16]byte(table[16:32]),
		})
	}
	return extents
}

// check looks at what the fields say of each other.
func (f *Frame) check() error {
	var data uint64
	for i, e := range f.Extents {
		if e.Offset < 0 || e.Length == 0 || e.Offset > (1<<62) {
			return fmt.Errorf("%w: extent %d has no valid range", ErrFrame, i)
		}
		switch e.Kind {
		case ExtentData:
			data += uint64(e.Length)
		case ExtentZero:
		case ExtentCopy:
			return fmt.Errorf("%w: extent %d is of a reserved kind", ErrFrame, i)
		default:
			return fmt.Errorf("%w: extent %d is of unknown kind %d", ErrFrame, i, e.Kind)
		}
	}
	switch {
	case data != uint64(f.RawSize):
		return fmt.Errorf("%w: data extents hold %d bytes, the header says %d", ErrFrame, data, f.RawSize)
	case f.Codec > CodecLZ4:
		return fmt.Errorf("%w: unknown codec %d", ErrFrame, f.Codec)
	case f.Codec == CodecNone && uint32(len(f.Payload)) != f.RawSize:
		return fmt.Errorf("%w: plain payload of %d bytes, want %d", ErrFrame, len(f.Payload), f.RawSize)
	case f.Type < FrameBlocks || f.Type > FrameHello:
		return fmt.Errorf("%w: unknown type %d", ErrFrame, f.Type)
	case f.Seq == 0 || (f.Type == FrameHello) != (f.Seq == 1):
		return fmt.Errorf("%w: seq %d in a frame of type %d", ErrFrame, f.Seq, f.Type)
	}
	return nil
}

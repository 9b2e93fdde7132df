package codec

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"rehost/protocol"
)

// sample makes extents with text, noise and zeros, and their bytes.
func sample(seed uint64) ([]protocol.Extent, []byte) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var extents []protocol.Extent
	var raw []byte
	for len(raw) < protocol.MaxRaw/2 {
		b := make([]byte, (1+rng.IntN(8))*4096)
		switch rng.IntN(3) {
		case 0:
			copy(b, bytes.Repeat([]byte("text "), len(b)/5))
		case 1:
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		}
		extents = append(extents, protocol.Extent{Disk: uint16(rng.IntN(2)), Offset: rng.Int64N(1<<30) &^ 4095, Length: uint32(len(b))})
		raw = append(raw, b...)
	}
	return extents, raw
}

func TestUnpackReturnsWhatWasPacked(t *testing.T) {
	for seed := range uint64(20) {
		extents, raw := sample(seed)
		want := map[int64]byte{}
		at := 0
		for _, e := range extents {
			for i := range int64(e.Length) {
				want[e.Offset+i+int64(e.Disk)<<40] = raw[at]
				at++
			}
		}
		f := protocol.Frame{Type: protocol.FrameBlocks, Seq: 2}
		var p Packer
		p.Pack(&f, extents, bytes.Clone(raw), make([]byte, len(raw)))
		wire, _ := f.Encode(nil)
		g, _, err := protocol.DecodeFrame(wire)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var u Unpacker
		got, err := u.Unpack(&g)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		seen := 0
		for _, e := range g.Extents {
			for i := range int64(e.Length) {
				var b byte
				if e.Kind == protocol.ExtentData {
					b = got[0]
					got = got[1:]
				}
				if b != want[e.Offset+i+int64(e.Disk)<<40] {
					t.Fatalf("seed %d: byte at %d differs", seed, e.Offset+i)
				}
				seen++
			}
		}
		if seen != at {
			t.Fatalf("seed %d: %d bytes came back, want %d", seed, seen, at)
		}
	}
}

func TestPackFindsZeros(t *testing.T) {
	raw := make([]byte, 4*Grain)
	raw[2*Grain] = 1
	var f protocol.Frame
	new(Packer).Pack(&f, []protocol.Extent{{Offset: 1 << 20, Length: uint32(len(raw))}}, raw, nil)
	if len(f.Extents) != 3 || f.RawSize != Grain || f.Extents[0].Kind != protocol.ExtentZero || f.Extents[0].Length != 2*Grain {
		t.Fatalf("got %+v with %d raw bytes, want zeros, data, zeros", f.Extents, f.RawSize)
	}
}

func TestPackKeepsNoiseUncompressed(t *testing.T) {
	raw := make([]byte, Grain)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	var f protocol.Frame
	new(Packer).Pack(&f, []protocol.Extent{{Length: Grain}}, raw, make([]byte, Grain))
	if f.Codec != protocol.CodecNone || len(f.Payload) != Grain {
		t.Fatalf("got codec %d with %d bytes, want the raw bytes", f.Codec, len(f.Payload))
	}
}

func TestUnpackRejectsEveryFlippedByte(t *testing.T) {
	extents, raw := sample(3)
	var f protocol.Frame
	new(Packer).Pack(&f, extents, raw, make([]byte, len(raw)))
	var u Unpacker
	rng := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		i, bit := rng.IntN(len(f.Payload)), byte(1)<<rng.IntN(8)
		f.Payload[i] ^= bit
		if _, err := u.Unpack(&f); !errors.Is(err, ErrContent) {
			t.Fatalf("byte %d flipped by %#x: got %v, want ErrContent", i, bit, err)
		}
		f.Payload[i] ^= bit
	}
	if _, err := u.Unpack(&f); err != nil {
		t.Fatalf("after all flips were taken back: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	extents, raw := sample(1)
	frame := protocol.Frame{Type: protocol.FrameBlocks, Seq: 2}
	new(Packer).Pack(&frame, extents, raw, make([]byte, len(raw)))
	f.Add(frame.Payload, frame.RawSize, uint32(4096), uint8(1))
	f.Add([]byte{}, uint32(0), uint32(0), uint8(0))
	f.Add([]byte{0xf0, 0xff}, uint32(1<<20), uint32(1<<31), uint8(1))
	f.Fuzz(func(t *testing.T, payload []byte, rawSize, length uint32, kind uint8) {
		g := protocol.Frame{
			Codec: protocol.CodecLZ4, RawSize: rawSize, Payload: payload,
			Extents: []protocol.Extent{{Kind: protocol.ExtentKind(kind), Length: length}},
		}
		var u Unpacker
		if got, err := u.Unpack(&g); err == nil && uint32(len(got)) != rawSize {
			t.Fatalf("got %d bytes, the frame says %d", len(got), rawSize)
		}
	})
}

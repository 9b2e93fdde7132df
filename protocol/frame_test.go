package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write missing vectors; an existing one is never changed")

// samples are frames of each type; each has a vector in testdata that must decode for ever.
func samples() map[string]Frame {
	session := Session{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	key := ServerKey("web-1")
	return map[string]Frame{
		"hello": {Type: FrameHello, Session: session, Seq: 1, Server: key, Meta: []byte(`{"server":"web-1","full":true}`)},
		"hello-epoch": {
			Type: FrameHello, Session: session, Seq: 1, Server: key,
			Meta: []byte(`{"epoch":18446744073709551615,"server":"web-1","generation":"g","full":true}`),
		},
		"blocks": {
			Type: FrameBlocks, Codec: CodecNone, Session: session, Seq: 2, Prev: Digest{9, 9}, Server: key, RawSize: 8,
			Extents: []Extent{
				{Disk: 0, Kind: ExtentData, Offset: 16384, Length: 8, Hash: [16]byte{7}},
				{Disk: 1, Kind: ExtentZero, Offset: 1 << 40, Length: 1 << 31},
			},
			Payload: []byte("contents"),
		},
		"lz4": {
			Type: FrameBlocks, Codec: CodecLZ4, Session: session, Seq: 3, Server: key, RawSize: 4096,
			Extents: []Extent{{Kind: ExtentData, Length: 4096}}, Payload: []byte{1, 2, 3},
		},
		"point": {Type: FramePoint, Session: session, Seq: 4, Prev: Digest{1}, Server: key, Meta: []byte(`{"id":"p-1"}`)},
	}
}

func TestFramesSurviveTheWire(t *testing.T) {
	for name, want := range samples() {
		t.Run(name, func(t *testing.T) {
			bytesOf, digest := want.Encode(nil)
			got, gotDigest, err := DecodeFrame(bytesOf)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if gotDigest != digest {
				t.Errorf("got digest %s, want %s", gotDigest, digest)
			}
		})
	}
}

func TestVectorsDecodeForEver(t *testing.T) {
	for name, want := range samples() {
		path := filepath.Join("testdata", "frame-v1-"+name+".hex")
		if _, err := os.Stat(path); *update && errors.Is(err, os.ErrNotExist) {
			encoded, _ := want.Encode(nil)
			if err := os.WriteFile(path, []byte(hex.EncodeToString(encoded)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := DecodeFrame(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// A flipped bit in anything but the payload is found by the decoder; one in the payload is for the extents' hashes.
func TestAFlippedBitInTheHeadIsFound(t *testing.T) {
	for name, frame := range samples() {
		encoded, _ := frame.Encode(nil)
		for i := range len(encoded) - len(frame.Payload) {
			for bit := range 8 {
				bad := bytes.Clone(encoded)
				bad[i] ^= 1 << bit
				if _, _, err := DecodeFrame(bad); !errors.Is(err, ErrFrame) {
					t.Fatalf("%s: bit %d of byte %d flipped: got %v, want ErrFrame", name, bit, i, err)
				}
			}
		}
	}
}

func TestATruncatedFrameIsFound(t *testing.T) {
	frame := samples()["blocks"]
	encoded, _ := frame.Encode(nil)
	for n := range encoded {
		if _, _, err := DecodeFrame(encoded[:n]); !errors.Is(err, ErrFrame) {
			t.Fatalf("%d of %d bytes: got %v, want ErrFrame", n, len(encoded), err)
		}
	}
}

// The digest links frames, so it must change with every field that the replica acts on.
func TestTheDigestCoversExtentsAndMeta(t *testing.T) {
	a, b := samples()["blocks"], samples()["blocks"]
	b.Extents[0].Hash[3] ^= 1
	_, digestA := a.Encode(nil)
	_, digestB := b.Encode(nil)
	if digestA == digestB {
		t.Error("two frames with different content have one digest")
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, frame := range samples() {
		encoded, _ := frame.Encode(nil)
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, digest, err := DecodeFrame(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("got %v, want ErrFrame", err)
			}
			return
		}
		again, digestAgain := frame.Encode(nil)
		if !bytes.Equal(again, b) || digest != digestAgain {
			t.Fatal("what decodes does not encode to the same bytes")
		}
	})
}

func TestAnEpochKeepsAllItsBits(t *testing.T) {
	var h Hello
	if err := json.Unmarshal(samples()["hello-epoch"].Meta, &h); err != nil {
		t.Fatal(err)
	}
	if h.Epoch != math.MaxUint64 {
		t.Errorf("got %d, want %d", h.Epoch, uint64(math.MaxUint64))
	}
}

func TestSessionsAndDigestsAreHexInRecords(t *testing.T) {
	want := Checkpoint{Server: "web-1", Position: Position{Session: Session{1, 255}, Seq: 7, Digest: Digest{2}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"01ff0000000000000000000000000000"`) {
		t.Errorf("got %s", text)
	}
	var got Checkpoint
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

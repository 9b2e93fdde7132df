package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/minio/minlz"
	"github.com/pierrec/lz4/v4"

	"rehost/internal/codec"
	"rehost/protocol"
)

// frameCount bounds the frames that are measured: they are taken evenly from the whole disk.
const frameCount = 512

// coder is a codec as a frame would use it: one block, appended to nothing that is kept.
type coder struct {
	name   string
	encode func(dst, src []byte) ([]byte, error) // nil where the block would not shrink
	decode func(dst, src []byte) ([]byte, error)
}

func coders() ([]coder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	unlz4 := func(dst, src []byte) ([]byte, error) {
		n, err := lz4.UncompressBlock(src, dst)
		return dst[:n], err
	}
	shrunk := func(dst []byte, n int, err error) ([]byte, error) {
		if err != nil || n == 0 { // lz4 says "short buffer" of what would not shrink
			return nil, nil //nolint:nilerr,nilnil // see above
		}
		return dst[:n], nil
	}
	var today lz4.Compressor
	all := []coder{{"lz4", func(dst, src []byte) ([]byte, error) {
		n, err := today.CompressBlock(src, dst[:len(src)-1])
		return shrunk(dst, n, err)
	}, unlz4}}
	for _, acceleration := range []int{1, 2, 4, 8} {
		c := lz4.CompressorCCompat{Acceleration: acceleration}
		all = append(all, coder{fmt.Sprintf("lz4 ccompat %d", acceleration), func(dst, src []byte) ([]byte, error) {
			n, err := c.CompressBlock(src, dst[:len(src)-1])
			return shrunk(dst, n, err)
		}, unlz4})
	}
	return append(all,
		coder{"s2", func(dst, src []byte) ([]byte, error) { return s2.Encode(dst, src), nil }, s2.Decode},
		coder{"minlz fastest", func(dst, src []byte) ([]byte, error) { return minlz.Encode(dst, src, minlz.LevelFastest) }, minlz.Decode},
		coder{"zstd fastest", func(dst, src []byte) ([]byte, error) { return enc.EncodeAll(src, dst[:0]), nil }, func(dst, src []byte) ([]byte, error) {
			return dec.DecodeAll(src, dst[:0])
		}},
	), nil
}

// codecFigures is what a codec did, in MB of raw bytes per second, and how often smaller its blocks are.
type codecFigures struct{ compress, decompress, ratio float64 }

// codecs measures every codec on the same frames, in turns, on one core. The result compares today's lz4 with the best
// of the others, by the time that a frame needs on both sides together.
func codecs(ctx context.Context, e *env, name string) (result, error) {
	d, err := openDisk(ctx, e, standard)
	if err != nil {
		return result{}, err
	}
	frames, err := readFrames(d)
	if err != nil {
		return result{}, err
	}
	all, err := coders()
	if err != nil {
		return result{}, err
	}
	rounds := make([][]codecFigures, len(all))
	for round := range e.rounds {
		for i, c := range all {
			if err := ctx.Err(); err != nil {
				return result{}, err
			}
			f, err := c.measure(frames)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", c.name, err)
			}
			say("  round %d of %d, %s: %.0f MB/s, %.0f MB/s back, %.3f", round+1, e.rounds, c.name, f.compress, f.decompress, f.ratio)
			rounds[i] = append(rounds[i], f)
		}
	}
	both := make([]float64, len(all))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "codec\tcompress MB/s\tdecompress MB/s\tratio\tboth MB/s\tat most over 1 Gbit/s\tover 10 Gbit/s\t")
	for i, c := range all {
		f := medians(rounds[i])
		both[i] = 1 / (1/f.compress + 1/f.decompress)
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.3f\t%.0f\t%.0f\t%.0f\n", c.name, f.compress, f.decompress, f.ratio, both[i], f.over(125), f.over(1250))
	}
	_ = w.Flush()
	best := both[1]
	for _, b := range both[2:] {
		best = max(best, b)
	}
	const clearly = 0.8 // below this, another codec would be worth its price
	r := speed(name, "MB/s", both[:1], []float64{best}, clearly)
	r.Rounds = e.rounds
	return r, nil
}

func medians(rounds []codecFigures) codecFigures {
	var c, d, r []float64
	for _, f := range rounds {
		c, d, r = append(c, f.compress), append(d, f.decompress), append(r, f.ratio)
	}
	return codecFigures{median(c), median(d), median(r)}
}

// over returns the raw MB/s that one core on each side can bring through a link of so many MB/s.
func (f codecFigures) over(link float64) float64 { return min(f.compress, f.decompress, link*f.ratio) }

// readFrames returns frames of the disk's content, without the zeros that a frame does not carry.
func readFrames(d *disk) ([][]byte, error) {
	f, err := os.Open(d.image)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	var frames [][]byte
	buf := make([]byte, codec.Grain)
	zeros := make([]byte, codec.Grain)
	var frame []byte
	step := d.size / frameCount
	for at := int64(0); at < d.size; at += step {
		for in := at; in < at+step && len(frame) < protocol.MaxRaw; in += codec.Grain {
			if _, err := f.ReadAt(buf, in); err != nil {
				return nil, err
			}
			if !bytes.Equal(buf, zeros) {
				frame = append(frame, buf...)
			}
		}
		if len(frame) == protocol.MaxRaw {
			frames = append(frames, frame)
			frame = nil
		}
	}
	if len(frames) < frameCount/4 {
		return nil, fmt.Errorf("the disk gave only %d frames", len(frames))
	}
	return frames, nil
}

// measure compresses every frame, then decompresses all, and compares.
func (c coder) measure(frames [][]byte) (codecFigures, error) {
	packed := make([][]byte, len(frames))
	buf := make([]byte, 2*protocol.MaxRaw)
	raw, stored := 0, 0
	var compress, decompress time.Duration
	for i, f := range frames {
		began := time.Now()
		out, err := c.encode(buf, f)
		compress += time.Since(began)
		if err != nil {
			return codecFigures{}, err
		}
		raw += len(f)
		if out == nil || len(out) >= len(f) { // stored as it is
			stored += len(f)
			continue
		}
		stored += len(out)
		packed[i] = bytes.Clone(out)
	}
	for i, p := range packed {
		if p == nil {
			continue
		}
		began := time.Now()
		out, err := c.decode(buf, p)
		decompress += time.Since(began)
		if err != nil || !bytes.Equal(out, frames[i]) {
			return codecFigures{}, fmt.Errorf("frame %d comes back different: %w", i, err)
		}
	}
	mb := float64(raw) / 1e6
	return codecFigures{mb / compress.Seconds(), mb / decompress.Seconds(), float64(raw) / float64(stored)}, nil
}

package cpio

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// zstdFrame passes through the bytes of zstd frames and ends where they end.
type zstdFrame struct {
	in       *bufio.Reader
	left     int  // bytes to pass on before the next decision
	inFrame  bool // the next decision is about a block
	last     bool // the block passed on now is the last of its frame
	checksum bool
}

func (z *zstdFrame) Read(b []byte) (int, error) {
	for z.left == 0 {
		if err := z.decide(); err != nil {
			return 0, err
		}
	}
	n, err := z.in.Read(b[:min(len(b), z.left)])
	z.left -= n
	return n, err
}

// decide looks at the next header and sets how many bytes belong together.
func (z *zstdFrame) decide() error {
	if z.last {
		z.inFrame, z.last = false, false
		if z.checksum {
			z.left = 4
			return nil
		}
	}
	if !z.inFrame {
		return z.frame()
	}
	h, err := z.in.Peek(3)
	if err != nil {
		return fmt.Errorf("%w: zstd block: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	v := uint32(h[0]) | uint32(h[1])<<8 | uint32(h[2])<<16
	size := int(v >> 3)
	if v>>1&3 == 1 { // one byte, repeated
		size = 1
	}
	z.last = v&1 == 1
	z.left = 3 + size
	return nil
}

// frame reads a frame's header; io.EOF when no frame starts here.
func (z *zstdFrame) frame() error {
	h, err := z.in.Peek(5)
	if err != nil || binary.LittleEndian.Uint32(h) != 0xfd2fb528 {
		return io.EOF // what follows is not zstd: this part has ended
	}
	d := h[4]
	size := 5
	if d&0x20 == 0 {
		size++ // window
	}
	size += []int{0, 1, 2, 4}[d&3] // dictionary
	switch d >> 6 {
	case 0:
		if d&0x20 != 0 {
			size++
		}
	case 1:
		size += 2
	case 2:
		size += 4
	case 3:
		size += 8
	}
	z.checksum = d&4 != 0
	z.inFrame, z.left = true, size
	return nil
}

package appliance

import (
	"bytes"
	"context"
	"debug/elf"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"rehost/internal/command"
)

// A Debian kernel unpacks itself with xz when it starts. On an emulated processor
// that takes three to five seconds, more than all else together until the first process
// runs. So the kernel is unpacked here, and started by a few instructions instead
// of its own decompressor.

// stub is what unpack.asm assembles to.
//
//go:generate sh -c "as --64 unpack.asm -o unpack.o && objcopy -O binary -j .text unpack.o unpack.bin && rm unpack.o"
//go:embed unpack.bin
var stub []byte

const (
	// stubSpace is before the kernel: the stub, its page tables, and nothing else.
	stubSpace = 2 << 20
	// kernelAddress is where the kernel is linked to run, in physical memory.
	kernelAddress = 16 << 20
)

// unpackKernel returns a kernel that needs no decompression: the setup code of
// bzImage, the stub, and the segments of the kernel where they belong in memory.
func unpackKernel(ctx context.Context, bzImage []byte) ([]byte, error) {
	if len(bzImage) < 0x268 || string(bzImage[0x202:0x206]) != "HdrS" {
		return nil, errors.New("unpack the kernel: not a bzImage")
	}
	setup := (int(bzImage[0x1f1]) + 1) * sectorBytes
	offset := setup + int(binary.LittleEndian.Uint32(bzImage[0x248:]))
	size := int(binary.LittleEndian.Uint32(bzImage[0x24c:]))
	if size < 4 || offset+size > len(bzImage) || !bytes.HasPrefix(bzImage[offset:], []byte{0xfd, '7', 'z', 'X', 'Z', 0}) {
		return nil, errors.New("unpack the kernel: it is not compressed with xz")
	}
	// The last four bytes are the unpacked size.
	vmlinux, err := command.RunIn(ctx, "", bzImage[offset:offset+size-4], "xz", "-dc")
	if err != nil {
		return nil, fmt.Errorf("unpack the kernel: %w", err)
	}
	flat, memory, err := flatten(vmlinux)
	if err != nil {
		return nil, fmt.Errorf("unpack the kernel: %w", err)
	}
	image := bytes.Clone(bzImage[:setup])
	image = append(image, stub...)
	image = append(image, make([]byte, stubSpace-len(stub))...)
	image = append(image, flat...)
	image = append(image, make([]byte, (16-len(image)%16)%16)...)
	binary.LittleEndian.PutUint32(image[0x1f4:], uint32((len(image)-setup)/16)) // syssize
	binary.LittleEndian.PutUint32(image[0x248:], 0)                             // nothing is compressed
	binary.LittleEndian.PutUint32(image[0x24c:], 0)
	binary.LittleEndian.PutUint64(image[0x258:], kernelAddress-stubSpace)  // pref_address
	binary.LittleEndian.PutUint32(image[0x260:], uint32(stubSpace+memory)) // init_size
	return image, nil
}

// flatten returns the kernel as it is in memory from kernelAddress on, zeros at its
// end left out, and how much memory it takes.
func flatten(vmlinux []byte) (flat []byte, memory uint64, err error) {
	f, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return nil, 0, err
	}
	if f.Entry != kernelAddress {
		return nil, 0, fmt.Errorf("it starts at %#x", f.Entry)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Paddr < kernelAddress || p.Paddr+p.Memsz > kernelAddress+(256<<20) || p.Filesz > p.Memsz {
			return nil, 0, fmt.Errorf("it has a segment at %#x", p.Paddr)
		}
		at := p.Paddr - kernelAddress
		memory = max(memory, at+p.Memsz)
		if end := at + p.Filesz; end > uint64(len(flat)) {
			flat = append(flat, make([]byte, end-uint64(len(flat)))...)
		}
		if _, err := io.ReadFull(p.Open(), flat[at:at+p.Filesz]); err != nil {
			return nil, 0, err
		}
	}
	return bytes.TrimRight(flat, "\x00"), memory, nil
}

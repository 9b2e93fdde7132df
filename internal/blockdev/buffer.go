package blockdev

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// AlignedBuffer returns sizeBytes of zeroed, page-aligned memory outside the Go heap: fit for direct I/O, and not
// counted or scanned by the garbage collector. Give it back with FreeBuffer.
func AlignedBuffer(sizeBytes int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, sizeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map a buffer of %d bytes: %w", sizeBytes, err)
	}
	return b, nil
}

// FreeBuffer returns the memory of an AlignedBuffer, which must be passed with its full capacity.
func FreeBuffer(b []byte) error {
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		return fmt.Errorf("unmap a buffer: %w", err)
	}
	return nil
}

// Pool is a fixed number of aligned buffers of one size; it bounds the memory of those who share it.
type Pool struct {
	sizeBytes int
	count     int
	free      chan []byte
}

// NewPool returns a pool of count buffers. Memory is taken from the kernel only when a buffer is first written to.
func NewPool(sizeBytes, count int) (*Pool, error) {
	p := &Pool{sizeBytes: sizeBytes, free: make(chan []byte, count)}
	for range count {
		b, err := AlignedBuffer(sizeBytes)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.free <- b
		p.count++
	}
	return p, nil
}

// Get returns a buffer of the pool's size with any content. It waits until one is free or ctx ends.
func (p *Pool) Get(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.free:
		return b, nil
	default:
	}
	select {
	case b := <-p.free:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Put gives a buffer back. The caller must not use it any more; it may have been resliced from its start.
func (p *Pool) Put(b []byte) { p.free <- b[:p.sizeBytes] }

// Close unmaps the buffers. It waits for those that have not been given back: unmapping one in use would crash its user.
func (p *Pool) Close() error {
	var errs []error
	for ; p.count > 0; p.count-- {
		errs = append(errs, FreeBuffer(<-p.free))
	}
	return errors.Join(errs...)
}

package stamp

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"rehost/replicaserver"
)

const page = 4096

// flushTime is how long a flush takes at least, as one of an attached volume does: a kill must be able to come before its end.
const flushTime = 30 * time.Millisecond

// volatile is a volume behind a write cache, as disks have: what is not flushed when the process is killed is lost. A
// volume that is a file keeps it, since the kernel outlives the process. A flush that fails loses what was in the cache.
type volatile struct {
	replicaserver.Volume
	mu       sync.Mutex       // guards the fields beneath
	cache    map[int64][]byte // pages by offset; nil: zeros
	flushing map[int64][]byte // the cache that a flush is writing
}

func openVolatile(byID, id string, virgin bool) (replicaserver.Volume, error) {
	v, err := replicaserver.OpenVolume(byID, id, virgin)
	if err != nil {
		return v, err
	}
	return &volatile{Volume: v, cache: map[int64][]byte{}}, nil
}

var errUnaligned = errors.New("not whole pages")

func (v *volatile) WriteAt(b []byte, offset int64) (int, error) {
	if offset%page != 0 || len(b)%page != 0 {
		return 0, errUnaligned
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for at := 0; at < len(b); at += page {
		v.cache[offset+int64(at)] = slices.Clone(b[at : at+page])
	}
	return len(b), nil
}

func (v *volatile) Zero(offset, length int64) error {
	if offset%page != 0 || length%page != 0 {
		return errUnaligned
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for at := offset; at < offset+length; at += page {
		v.cache[at] = nil
	}
	return nil
}

func (v *volatile) ReadAt(b []byte, offset int64) (int, error) {
	if offset%page != 0 || len(b)%page != 0 {
		return 0, errUnaligned
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err := v.Volume.ReadAt(b, offset)
	for _, pages := range []map[int64][]byte{v.flushing, v.cache} {
		for at := 0; at < len(b); at += page {
			if p, ok := pages[offset+int64(at)]; ok {
				clear(b[at : at+page])
				copy(b[at:at+page], p)
			}
		}
	}
	return n, err
}

func (v *volatile) Flush() error {
	v.mu.Lock()
	v.flushing, v.cache = v.cache, map[int64][]byte{}
	pages := v.flushing
	v.mu.Unlock()
	<-time.After(flushTime)
	err := v.write(pages)
	if err == nil {
		err = v.Volume.Flush()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flushing = nil
	return err
}

// write puts pages on the volume, zeros in runs.
func (v *volatile) write(pages map[int64][]byte) error {
	offsets := slices.Sorted(maps.Keys(pages))
	for i := 0; i < len(offsets); {
		at, n := offsets[i], int64(page)
		i++
		if p := pages[at]; p != nil {
			if _, err := v.Volume.WriteAt(p, at); err != nil {
				return err
			}
			continue
		}
		for ; i < len(offsets) && offsets[i] == at+n && pages[offsets[i]] == nil; i++ {
			n += page
		}
		if err := v.Volume.Zero(at, n); err != nil {
			return err
		}
	}
	return nil
}

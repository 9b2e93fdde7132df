package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/protocol"
)

// slowKV is a bucket on a disk that does one write after the other.
type slowKV struct {
	jetstream.KeyValue
	disk     sync.Mutex
	revision uint64
	waiting  atomic.Int64
}

func (kv *slowKV) Create(context.Context, string, []byte, ...jetstream.KVCreateOpt) (uint64, error) {
	defer kv.waiting.Add(-1)
	if n := kv.waiting.Add(1); n > maxWrites {
		return 0, fmt.Errorf("%d writes wait for the disk, each with a deadline", n)
	}
	kv.disk.Lock()
	defer kv.disk.Unlock()
	time.Sleep(time.Millisecond) // the others come
	kv.revision++
	return kv.revision, nil
}

func TestFewWritesWaitForASlowDisk(t *testing.T) {
	b := newBucket[protocol.Server]("servers", &slowKV{})
	var wg sync.WaitGroup
	for i := range 256 {
		wg.Go(func() {
			name := fmt.Sprintf("srv-%d", i)
			if err := b.Create(t.Context(), name, protocol.Server{Name: name}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

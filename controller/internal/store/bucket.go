// Package store keeps the controller's records in JetStream's key-value buckets. It owns
// how they are changed (by compare-and-swap only) and mirrors them in memory, so that a
// thousand agents' reports cost no read of the bus. It never decides what a record says.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/internal/hint"
)

// Errors of a bucket; both are found with errors.Is.
var (
	ErrNotFound = errors.New("no such record")
	ErrExists   = errors.New("record exists already")
)

// maxConflicts bounds how often an update starts over before it gives up.
const maxConflicts = 50

// maxWrites bounds the writes of a bucket under way. The bus syncs each by itself, and one that waits there for hundreds of
// others fails by its deadline: on a slow disk nothing would get done.
const maxWrites = 16

// answerWait is how long an answer of the bus is waited for. One that a bus did not send before it died never comes, however patient the caller is.
const answerWait = 5 * time.Second

// Bucket holds the records of one kind. Reads come from the mirror, which [Bucket.Run] keeps.
type Bucket[T any] struct {
	name    string
	kv      jetstream.KeyValue
	ready   chan struct{}
	slots   chan struct{}            // of writes under way
	note    func(before T, after *T) // adds to a record what a change of it says; nil: nothing
	changed func(key string)         // nil: nobody asks
	may     func() error             // says that records may be written, or why not
	wait    time.Duration            // for an answer of the bus

	mu      sync.Mutex
	entries map[string]entry[T]
	keys    []string // of entries, in their order
}

type entry[T any] struct {
	revision uint64
	value    []byte // nil: deleted
	decoded  *T     // nil: not readable
}

// NewBucket binds a bucket that exists.
func NewBucket[T any](ctx context.Context, js jetstream.JetStream, name string) (*Bucket[T], error) {
	kv, err := js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	return newBucket[T](name, kv), nil
}

func newBucket[T any](name string, kv jetstream.KeyValue) *Bucket[T] {
	return &Bucket[T]{name: name, kv: kv, ready: make(chan struct{}), slots: make(chan struct{}, maxWrites), may: func() error { return nil }, wait: answerWait, entries: map[string]entry[T]{}}
}

// Run keeps the mirror until ctx ends.
func (b *Bucket[T]) Run(ctx context.Context) error {
	watcher, err := b.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	var once sync.Once
	for {
		select {
		case <-ctx.Done():
			_ = watcher.Stop() // the connection may be gone already
			return nil
		case e, ok := <-watcher.Updates():
			switch {
			case !ok:
				return b.watchEnded(ctx)
			case e == nil: // all that was there has come
				once.Do(func() { close(b.ready) })
			case e.Operation() == jetstream.KeyValuePut:
				b.remember(e.Key(), e.Revision(), e.Value())
			default:
				b.remember(e.Key(), e.Revision(), nil)
			}
		}
	}
}

// watchEnded is no error when ctx ended the watch.
func (b *Bucket[T]) watchEnded(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return fmt.Errorf("watch bucket %s: the watch ended", b.name)
	}
}

// Ready is closed when the mirror holds all that was in the bucket at the start.
func (b *Bucket[T]) Ready() <-chan struct{} { return b.ready }

// Follow makes the bucket call changed with the key of each record that it learns of, there from the start or changed, after the
// mirror has it. It must return at once. Call it before Run.
func (b *Bucket[T]) Follow(changed func(key string)) { b.changed = changed }

// only makes the bucket write no record unless may says nil.
func (b *Bucket[T]) only(may func() error) { b.may = may }

// places are those of writes: who has all of them keeps everybody from writing.
func (b *Bucket[T]) places() chan struct{} { return b.slots }

func (b *Bucket[T]) remember(key string, revision uint64, value []byte) {
	if b.keep(key, revision, value) && b.changed != nil {
		b.changed(key)
	}
}

// keep takes a record into the mirror, unless what is there is newer.
func (b *Bucket[T]) keep(key string, revision uint64, value []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries[key].revision >= revision {
		return false
	}
	e := entry[T]{revision: revision, value: value}
	var v T
	if value != nil && bus.Decode(value, &v) == nil {
		e.decoded = &v
	}
	if i, found := slices.BinarySearch(b.keys, key); !found {
		b.keys = slices.Insert(b.keys, i, key)
	}
	b.entries[key] = e
	return true
}

func (b *Bucket[T]) lookup(key string) (entry[T], bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	return e, ok && e.value != nil
}

// Revision returns a record's revision, which is another one after each change; 0: there is no such record.
func (b *Bucket[T]) Revision(key string) uint64 {
	e, ok := b.lookup(key)
	if !ok {
		return 0
	}
	return e.revision
}

// Get returns a record, or [ErrNotFound]. Its slices and maps are shared with other readers
// and must not be changed; [Bucket.Update] is the way to change a record.
func (b *Bucket[T]) Get(key string) (T, error) {
	e, ok := b.lookup(key)
	if !ok {
		var none T
		return none, fmt.Errorf("%s %s: %w", b.name, key, ErrNotFound)
	}
	if e.decoded != nil {
		return *e.decoded, nil
	}
	return b.decode(key, e.value) // tells why it is not readable
}

func (b *Bucket[T]) decode(key string, value []byte) (T, error) {
	var v T
	if err := bus.Decode(value, &v); err != nil {
		return v, fmt.Errorf("decode record %s of %s: %w", key, b.name, err)
	}
	return v, nil
}

// known decodes a record that is going to be rewritten. What a newer version put into it must not be lost by that.
func (b *Bucket[T]) known(key string, value []byte) (v T, err error) {
	if err := bus.DecodeKnown(value, &v); err != nil {
		return v, hint.Wrap(fmt.Errorf("rewrite record %s of %s: %w", key, b.name, err), "a newer version of rehost wrote it, and it stays as it is: start that version of rehost-controller")
	}
	return v, nil
}

// List returns the records whose key starts with prefix, in the order of their keys. What
// [Bucket.Get] says of sharing holds here too.
func (b *Bucket[T]) List(prefix string) ([]T, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := b.with(prefix)
	out := make([]T, 0, len(keys))
	for _, k := range keys {
		v, err := b.readable(k)
		if err != nil {
			return nil, err
		}
		if v != nil {
			out = append(out, *v)
		}
	}
	return out, nil
}

// Find is [Bucket.List] of the records that match says true of. It copies no others, for who asks often and finds little.
// match must not call the bucket.
func (b *Bucket[T]) Find(match func(*T) bool) ([]T, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []T
	for _, k := range b.keys {
		v, err := b.readable(k)
		if err != nil {
			return nil, err
		}
		if v != nil && match(v) {
			out = append(out, *v)
		}
	}
	return out, nil
}

// Keys returns the keys of all records, in their order.
func (b *Bucket[T]) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.keys))
	for _, k := range b.keys {
		if b.entries[k].value != nil {
			out = append(out, k)
		}
	}
	return out
}

// with returns the keys that start with prefix, also of deleted records. The caller holds the lock.
func (b *Bucket[T]) with(prefix string) []string {
	first, _ := slices.BinarySearch(b.keys, prefix)
	keys := b.keys[first:]
	return keys[:sort.Search(len(keys), func(i int) bool { return !strings.HasPrefix(keys[i], prefix) })]
}

// readable returns a record of the mirror, nil if it is deleted, or says why it cannot be read. The caller holds the lock.
func (b *Bucket[T]) readable(key string) (*T, error) {
	e := b.entries[key]
	if e.value == nil || e.decoded != nil {
		return e.decoded, nil
	}
	_, err := b.decode(key, e.value)
	return nil, err
}

// Create writes a record that must not exist, or returns [ErrExists].
func (b *Bucket[T]) Create(ctx context.Context, key string, v T) error {
	if b.note != nil {
		var none T
		b.note(none, &v)
	}
	text, err := bus.Encode(v)
	if err != nil {
		return fmt.Errorf("encode record %s of %s: %w", key, b.name, err)
	}
	revision, err := b.write(ctx, func(ctx context.Context) (uint64, error) { return b.kv.Create(ctx, key, text) })
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("create %s in %s: %w", key, b.name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("create %s in %s: %w", key, b.name, err)
	}
	b.remember(key, revision, text)
	return nil
}

// Put writes a record, whatever is there.
func (b *Bucket[T]) Put(ctx context.Context, key string, v T) error {
	err := b.Create(ctx, key, v)
	if errors.Is(err, ErrExists) {
		_, err = b.Update(ctx, key, func(old *T) error { *old = v; return nil })
	}
	return err
}

// Update changes a record by compare-and-swap: change sees the latest one and may be called
// again when another was faster or the bus did not answer, so it must depend on nothing but its argument. An error of
// change ends the update and comes back as it is. A record that change leaves as it was is
// not written, and one with fields that this version does not know is not rewritten: that is an error. It returns the record as it is now.
func (b *Bucket[T]) Update(ctx context.Context, key string, change func(*T) error) (T, error) {
	var none T
	for range maxConflicts {
		e, ok := b.lookup(key)
		if !ok {
			return none, fmt.Errorf("%s %s: %w", b.name, key, ErrNotFound)
		}
		v, err := b.known(key, e.value)
		if err != nil {
			return none, err
		}
		if err := change(&v); err != nil {
			return none, err
		}
		if b.note != nil {
			b.note(*e.decoded, &v)
		}
		text, err := bus.Encode(v)
		if err != nil {
			return none, fmt.Errorf("encode record %s of %s: %w", key, b.name, err)
		}
		if bytes.Equal(text, e.value) {
			return v, nil
		}
		revision, err := b.write(ctx, func(ctx context.Context) (uint64, error) { return b.kv.Update(ctx, key, text, e.revision) })
		if err == nil {
			b.remember(key, revision, text)
			return v, nil
		}
		lost := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil // it may have been written
		if !lost && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return none, fmt.Errorf("update %s in %s: %w", key, b.name, err)
		}
		if err := b.refresh(ctx, key); err != nil {
			return none, err
		}
		if e, _ := b.lookup(key); lost && bytes.Equal(e.value, text) {
			return v, nil
		}
	}
	return none, fmt.Errorf("update %s in %s: changed by others %d times", key, b.name, maxConflicts)
}

// write makes one write when it is its turn.
func (b *Bucket[T]) write(ctx context.Context, do func(ctx context.Context) (uint64, error)) (uint64, error) {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-b.slots }()
	if err := b.may(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	return do(ctx)
}

// refresh reads a record that someone else has changed.
func (b *Bucket[T]) refresh(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	e, err := b.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("%s %s: %w", b.name, key, ErrNotFound)
	case err != nil:
		return fmt.Errorf("read %s in %s: %w", key, b.name, err)
	}
	b.remember(key, e.Revision(), e.Value())
	return nil
}

// Delete removes a record by compare-and-swap, as long as still says nil of the latest one; nil: whatever it is. A missing one is no error. An error of still
// ends the deletion and comes back as it is.
func (b *Bucket[T]) Delete(ctx context.Context, key string, still func(T) error) error {
	for range maxConflicts {
		e, ok := b.lookup(key)
		if !ok {
			return nil
		}
		if still != nil {
			v, err := b.decode(key, e.value)
			if err == nil {
				err = still(v)
			}
			if err != nil {
				return err
			}
		}
		_, err := b.write(ctx, func(ctx context.Context) (uint64, error) {
			return 0, b.kv.Delete(ctx, key, jetstream.LastRevision(e.revision))
		})
		if err == nil {
			b.remember(key, e.revision+1, nil) // at most the tombstone's revision
			return nil
		}
		lost := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil // it may be deleted
		if !lost && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("delete %s in %s: %w", key, b.name, err)
		}
		if err := b.refresh(ctx, key); errors.Is(err, ErrNotFound) {
			return nil // others were faster; the mirror hears of it
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("delete %s in %s: changed by others %d times", key, b.name, maxConflicts)
}

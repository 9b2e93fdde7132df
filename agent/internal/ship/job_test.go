package ship

import (
	"context"
	"testing"

	"rehost/internal/blockdev"
)

// bare is a shipper with queues and buffers only.
func bare(t *testing.T, buffers int) *Shipper {
	t.Helper()
	pool, err := blockdev.NewPool(4096, buffers)
	if err != nil {
		t.Fatal(err)
	}
	return &Shipper{pool: pool, toRead: make(chan *job), ordered: make(chan *job, buffers), wake: make(chan struct{})}
}

// At the end a reader may still fill the buffer of a job that nobody will publish: it must not be anybody else's.
func TestABufferThatIsBeingReadIntoIsNotGivenBack(t *testing.T) {
	for name, giveUp := range map[string]func(s *Shipper, ctx context.Context, j *job){
		"job of a session that ended": func(s *Shipper, ctx context.Context, j *job) { s.drop(ctx, j) },
		"job to publish":              func(s *Shipper, ctx context.Context, j *job) { s.publishJob(ctx, j) },
	} {
		t.Run(name, func(t *testing.T) {
			s := bare(t, 1)
			buf, err := s.pool.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			j := &job{ready: make(chan struct{}), buf: buf} // a reader has it
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			giveUp(s, ctx, j)
			if j.buf == nil {
				t.Error("the buffer is gone while it is being read into")
			}
			if len(s.left) != 1 {
				t.Errorf("got %d jobs left for the end, want 1", len(s.left))
			}
		})
	}
}

// A job with a place in the order that no reader will take must not stop everything behind it.
func TestAJobThatNoReaderTakesIsReady(t *testing.T) {
	s := bare(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	j := &job{ready: make(chan struct{})}
	taken := make(chan struct{})
	go func() {
		<-s.ordered
		cancel() // now that it is in the order; no reader runs
		close(taken)
	}()
	if s.enqueue(ctx, j) {
		t.Fatal("a reader took the job")
	}
	<-taken
	select {
	case <-j.ready:
	default:
		t.Error("whoever publishes would wait for this job for ever")
	}
	if j.err == nil {
		t.Error("the job looks as if it had been read")
	}
}

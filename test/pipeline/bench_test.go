package pipeline

import (
	"math/rand/v2"
	"testing"
	"time"

	"rehost/protocol"
)

// BenchmarkFullSync copies a disk of 1 GiB, 55 % used, half of that incompressible, until it is durable. Agent, broker
// and replication server share the process; TLS, hashes, flushes and checkpoints are on.
func BenchmarkFullSync(b *testing.B) {
	const size = 1 << 30
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, size)
		rng := rand.New(rand.NewPCG(1, 1))
		buf := make([]byte, 1<<20)
		for at := int64(0); at < size*55/100; at += int64(len(buf)) {
			for i := 0; i < len(buf); i += 8 {
				v := rng.Uint64()
				if at>>20&1 == 0 {
					v &= 0x0303030303030303
				}
				for k := range 8 {
					buf[i+k] = byte(v >> (8 * k))
				}
			}
			if err := w.source.Write(0, buf, at); err != nil {
				b.Fatal(err)
			}
		}
		w.startReplica()
		b.StartTimer()
		start := time.Now()
		a := w.startAgent(false)
		w.await("full sync", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
			return len(a.Disks) > 0 && a.Disks[0].Replicated == size && a.Replication == protocol.ReplicationContinuous
		})
		b.ReportMetric(float64(size>>20)/time.Since(start).Seconds(), "MiB/s")
		if err := a.stop(); err != nil {
			b.Fatal(err)
		}
	}
}

package controller

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// EC2 allows two launches a second, and a fleet has hundreds of servers that need the same replication servers.
func TestAReplicationServerIsAskedForOnce(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	w.cloud.running = func(cloud.InstanceSpec) {
		asked.Add(1)
		time.Sleep(200 * time.Millisecond) // the others come meanwhile
	}
	w.controller(t.Context())
	f := w.fleet()
	const servers = 5 // of two volumes each: one replication server takes them
	for i := 2; i <= servers; i++ {
		s := f.Servers[0]
		s.Name = fmt.Sprintf("web-%d", i)
		f.Servers = append(f.Servers, s)
	}
	w.apply(f)
	for _, s := range f.Servers {
		w.agent(s.Name)
	}
	w.await("all servers to be staged", func() bool {
		status, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
		ready := 0
		for _, s := range status.Servers {
			if s.Record.Lifecycle == protocol.ReadyForTest {
				ready++
			}
		}
		return err == nil && ready == servers
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("the cloud was asked %d times for the one replication server", n)
	}
}

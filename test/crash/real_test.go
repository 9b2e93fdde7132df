package crash

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rehost/controller"
	"rehost/internal/bus"
	"rehost/internal/pool"
	"rehost/protocol"
)

// approver is who approves the wave; the operator starts its cutover.
const approver, manager = "mia", "change-manager"

// reality is the world with nothing played but the conversions: agents with disks, a replication server, and a controller with the bus in it, each
// a process of its own, and targets that boot.
type reality struct {
	*world
	hosts    map[string]*host
	approver *nats.Conn
}

// newReality brings servers to where they can be cut over, while their applications write.
func newReality(t *testing.T, f protocol.Fleet) *reality {
	t.Helper()
	needCrash(t)
	agents, err := filepath.Abs(replicaProgram)
	must(t, err)
	w := &world{t: t, dir: t.TempDir(), made: &ledger{ids: map[string]map[string]bool{}}, seen: map[string]bool{}, children: map[string]*part{}}
	// A service manager starts it again.
	w.openCloud([]string{"/bin/sh", "-c", "while :; do " + agents + " run --work-dir " + filepath.Join(w.dir, "replica") + "; sleep 0.2; done"})
	r := &reality{world: w, hosts: map[string]*host{}}
	var servers []string
	for _, s := range f.Servers {
		servers = append(servers, s.Name)
	}
	server, identities := w.enrol(servers, approver)
	server.Close()
	disks, err := pool.Open(t.Context(), pool.Options{Dir: filepath.Join(w.dir, "disks"), SizeBytes: poolBytes})
	must(t, err)
	t.Cleanup(func() {
		if err := disks.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range servers {
		r.hosts[name] = newHost(t, w.dir, disks.Root(), name, w.bus, identities[name])
	}
	w.keepAlive([]string{alone})
	for _, name := range servers {
		r.hosts[name].keepAgent(t)
		r.hosts[name].keepWriting(w)
	}
	w.operator, r.approver = w.connect(identities[protocol.RoleOperator]), w.connect(identities[approver])
	r.grant(w.connect(identities[protocol.RoleController]))
	r.apply(f)
	w.awaitAll(servers, protocol.ReadyForTest)
	for _, name := range servers {
		req := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{name}}, Action: protocol.ActionReady, Reason: "tested by hand"}
		_, err := ask[protocol.ChangeRequest, []protocol.Changed](w, protocol.VerbChange, req)
		must(t, err)
	}
	w.awaitAll(servers, protocol.ReadyForCutover)
	return r
}

// grant gives the role to both people: it is not for want of it that the operator's own approval is not enough.
func (r *reality) grant(root *nats.Conn) {
	for _, name := range []string{approver, protocol.RoleOperator} {
		r.await("the role of "+name, func() bool {
			_, err := request[protocol.GrantRequest, protocol.Operator](r.t.Context(), root, protocol.GrantSubject(protocol.RoleController), protocol.GrantRequest{Name: name, Roles: []string{manager}})
			return err == nil
		})
	}
}

func (r *reality) apply(f protocol.Fleet) {
	r.t.Helper()
	_, err := ask[protocol.ApplyRequest, protocol.Plan](r.world, protocol.VerbApply, protocol.ApplyRequest{Fleet: f})
	must(r.t, err)
}

// approve approves the wave as it is.
func (r *reality) approve(name string, nc *nats.Conn) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(bus.WithReason(r.t.Context(), "the change board agreed"), time.Minute)
	defer cancel()
	_, err := bus.Request[protocol.ApproveRequest, protocol.Approval](ctx, nc, protocol.OperatorSubject(protocol.VerbApprove, name), protocol.ApproveRequest{Wave: "one", Role: manager})
	must(r.t, err)
}

// wantGated checks that the cutover does not begin as things are.
func (r *reality) wantGated(why string) {
	r.t.Helper()
	_, err := ask[protocol.StartRequest, protocol.Job](r.world, protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover})
	if err == nil || !strings.Contains(err.Error(), why) {
		r.t.Fatalf("the cutover was not refused for want of %q: %v", why, err)
	}
}

func (r *reality) status(servers ...string) map[string]protocol.ServerStatus {
	r.t.Helper()
	s, err := ask[protocol.StatusRequest, protocol.Status](r.world, protocol.VerbStatus, protocol.StatusRequest{Servers: servers})
	must(r.t, err)
	out := map[string]protocol.ServerStatus{}
	for _, server := range s.Servers {
		out[server.Record.Name] = server
	}
	return out
}

// wantEqual compares each server's disk, as it was at a job's point, with the snapshot that the target was made of.
func (r *reality) wantEqual(job protocol.Job, servers ...string) {
	r.t.Helper()
	for _, s := range job.Servers {
		if !slices.Contains(servers, s.Server) {
			continue
		}
		points, err := ask[protocol.PointsRequest, []protocol.Point](r.world, protocol.VerbPoints, protocol.PointsRequest{Server: s.Server})
		must(r.t, err)
		i := slices.IndexFunc(points, func(p protocol.Point) bool { return p.ID == s.Data[protocol.JobDataPoint] })
		if i < 0 {
			r.t.Fatalf("the point %q of %s is not among %+v", s.Data[protocol.JobDataPoint], s.Server, points)
		}
		r.hosts[s.Server].equalAt(r.t, r.snapshots, points[i])
	}
}

// wantWritable checks that hosts are written to soon after their application was rolled back.
func (r *reality) wantWritable(a protocol.JobApplication, limit time.Duration) {
	r.t.Helper()
	for _, name := range a.Servers {
		var first time.Time
		r.await("writes on "+name, func() bool {
			first, _ = r.hosts[name].writes(a.Decided)
			return !first.IsZero()
		})
		took := first.Sub(a.Decided)
		r.t.Logf("%s was writable %s after the decision", name, took.Round(time.Millisecond))
		if took > limit {
			r.t.Errorf("%s was writable only %s after the decision, promised are %s", name, took, limit)
		}
	}
}

// realWave is the wave with a window, an approval, and a check that its targets pass when they boot from the disk that was copied.
func realWave() protocol.Fleet {
	f := wave()
	f.Checks = append(f.Checks, protocol.CheckSettings{Name: "boots", Kind: "console", Contains: greeting, Timeout: 5 * time.Minute})
	for i := range f.Servers {
		f.Servers[i].Checks = append([]string{"boots"}, f.Servers[i].Checks...)
	}
	f.Waves[0].Gates = protocol.GateSettings{
		Windows:   []protocol.WindowSettings{{From: sinceMidnight(-2 * time.Hour), To: sinceMidnight(6 * time.Hour), Zone: "UTC"}},
		Approvals: []protocol.ApprovalSettings{{Role: manager, Count: 1, FourEyes: true}},
	}
	return f
}

// sinceMidnight is the time of the day that is so far from now.
func sinceMidnight(ahead time.Duration) time.Duration {
	at := time.Now().UTC().Add(ahead).Truncate(time.Minute)
	return at.Sub(at.Truncate(24 * time.Hour))
}

// wayBack is what the controller keeps for a roll-back before a deadline.
var wayBack = controller.DefaultTiming().WayBack

// TestAWaveOfRealServers: an approval by somebody else and a window let a wave begin. The application whose check fails is rolled back and the others are
// committed; the next attempt meets its deadline, the hosts go on at once; and what is sent for the last attempt is what was written since.
func TestAWaveOfRealServers(t *testing.T) {
	f := realWave()
	shop, others := []string{"db-1", "web-1", "web-2"}, []string{"mx-1", "mx-2", "crm-1"}
	closed := f
	closed.Waves = slices.Clone(f.Waves)
	closed.Waves[0].Gates.Windows = []protocol.WindowSettings{{On: time.Now().AddDate(0, 0, 7).Format(time.DateOnly), To: time.Hour, Zone: "UTC"}}
	r := newReality(t, closed)
	r.wantGated("window")
	r.apply(f)
	r.wantGated("approval")
	r.approve(protocol.RoleOperator, r.operator)
	r.wantGated("that of operator does not count")
	r.approve(approver, r.approver)
	job := r.run(protocol.JobCutover)
	wantDecided(t, job, map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack, "mail": protocol.OutcomeCommitted, "crm": protocol.OutcomeCommitted})
	r.wantWritable(applicationOf(t, job, "shop"), 5*time.Second)
	r.wantFenced(shop, false)
	r.wantFenced(others, true)
	r.wantEqual(job, others...) // of what is rolled back the point goes, too

	last := r.meetsDeadline(f)
	before := r.sentSoFar(shop)
	f.Servers[2].Checks = []string{"boots"}
	r.apply(f)
	r.approve(approver, r.approver)
	job = r.run(protocol.JobCutover)
	wantDecided(t, job, map[string]protocol.Outcome{"shop": protocol.OutcomeCommitted})
	r.wantEqual(job, shop...)
	r.wantOnlyChanges(before, last)
	r.wantFenced(append(shop, others...), true)
	for _, server := range others {
		if _, n := r.hosts[server].writes(last); n > 0 {
			t.Errorf("%s was written to %d times after it was cut over", server, n)
		}
	}
	r.run(protocol.JobFinalize)
	r.wantOnlyTargets(6)
}

func applicationOf(t *testing.T, job protocol.Job, name string) protocol.JobApplication {
	t.Helper()
	i := slices.IndexFunc(job.Applications, func(a protocol.JobApplication) bool { return a.Name == name })
	if i < 0 {
		t.Fatalf("the job has no application %s: %+v", name, job.Applications)
	}
	return job.Applications[i]
}

// meetsDeadline begins a cutover of the shop whose check goes on until its deadline, and returns when it was rolled back.
func (r *reality) meetsDeadline(f protocol.Fleet) time.Time {
	r.t.Helper()
	f.Checks = slices.Clone(f.Checks)
	f.Checks[0].Timeout = 20 * time.Minute
	r.apply(f)
	r.approve(approver, r.approver)
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover, Deadline: time.Now().Add(time.Second)}
	_, err := ask[protocol.StartRequest, protocol.Job](r.world, protocol.VerbStart, req)
	if err == nil || !strings.Contains(err.Error(), "is predicted to take") {
		r.t.Fatalf("a deadline in a second was not refused: %v", err)
	}
	book, err := ask[protocol.RunbookRequest, protocol.Runbook](r.world, protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
	must(r.t, err)
	req.Deadline = time.Now().Add(book.End.Sub(book.Start) + wayBack + 20*time.Second)
	job := r.runRequest(req)
	wantDecided(r.t, job, map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack})
	a := applicationOf(r.t, job, "shop")
	if !strings.Contains(a.Why, "the deadline") || a.Decided.After(req.Deadline) {
		r.t.Errorf("the shop was rolled back at %s because %s; its deadline was %s", a.Decided, a.Why, req.Deadline)
	}
	r.wantWritable(a, 5*time.Second)
	return a.Decided
}

// traffic is what an agent has read and sent, and what the kernel has written to its disk.
type traffic struct{ read, sent, requests, written int64 }

// sentSoFar looks at the kernel's counts first: what is written after that look may have been sent before the other one.
func (r *reality) sentSoFar(servers []string) map[string]traffic {
	r.t.Helper()
	out := map[string]traffic{}
	for _, name := range servers {
		requests, written := r.hosts[name].kernelWrites(r.t)
		out[name] = traffic{requests: requests, written: written}
	}
	for name, s := range r.status(servers...) {
		b := out[name]
		b.read, b.sent = s.Agent.Read, s.Agent.Sent
		out[name] = b
	}
	return out
}

// wantOnlyChanges checks that agents have read and sent what was written to their disks, and no more.
func (r *reality) wantOnlyChanges(before map[string]traffic, since time.Time) {
	r.t.Helper()
	for name, s := range r.status(slices.Collect(maps.Keys(before))...) {
		b := before[name]
		requests, written := r.hosts[name].kernelWrites(r.t)
		read, sent := s.Agent.Read-b.read, s.Agent.Sent-b.sent
		_, records := r.hosts[name].writes(since)
		// A request touches two granules more than it fills, at most.
		bound := written - b.written + 2*(requests-b.requests)*s.Agent.Disks[0].GranuleBytes
		r.t.Logf("%s: %d records written since the roll-back, %d KiB on the disk in %d requests; read %d KiB, sent %d KiB for the next attempt (a disk has %d KiB)", name, records,
			(written-b.written)>>10, requests-b.requests, read>>10, sent>>10, s.Agent.Disks[0].SizeBytes>>10)
		if records == 0 || read == 0 || read > bound || read > ballast/2 || sent > read {
			r.t.Errorf("%s: read %d and sent %d bytes; of %d bytes in %d requests at most %d", name, read, sent, written-b.written, requests-b.requests, bound)
		}
	}
}

// Package staging brings a source server from its agent's first report to its first byte:
// replication server, volumes, stream, pairing. It owns the initiation steps and the
// teardown of what they made. Every step may be run again after a crash at any line: the
// record says what is intended before it is made, and what was made is found again by
// client token or tag. It takes no decisions about tests and cutovers.
package staging

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/singleflight"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/store"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Cloud is what staging needs of the cloud.
type Cloud interface {
	FindImage(ctx context.Context, nameOrID string) (cloud.Image, error)
	EnsureSecurityGroup(ctx context.Context, spec cloud.GroupSpec) (string, error)
	RunInstance(ctx context.Context, spec cloud.InstanceSpec) (cloud.Instance, error)
	Instance(ctx context.Context, id string) (cloud.Instance, error)
	Instances(ctx context.Context, tags cloud.Tags) ([]cloud.Instance, error)
	TerminateInstance(ctx context.Context, id string, progress cloud.Progress) error
	CreateVolume(ctx context.Context, spec cloud.VolumeSpec) (cloud.Volume, error)
	AttachVolume(ctx context.Context, volume, instance string, progress cloud.Progress) error
	Volumes(ctx context.Context, tags cloud.Tags) ([]cloud.Volume, error)
	DetachVolume(ctx context.Context, volume string, progress cloud.Progress) error
	DeleteVolume(ctx context.Context, id string) error
	Impairment(ctx context.Context, instance string) (string, error)
}

// Bus is what staging needs of the bus.
type Bus interface {
	EnsureStream(ctx context.Context, server, generation string, maxBytes int64) error
	DeleteStream(ctx context.Context, server, generation string) error
	// UserData makes what a replication server of that name needs to enrol.
	UserData(ctx context.Context, name string) (protocol.ReplicaServerUserData, error)
}

// Config is how patient staging is.
type Config struct {
	Retry       time.Duration // first pause after a failed step; doubled up to a minute
	ReplicaLost time.Duration // a replication server's silence from which on it is looked at
	Release     time.Duration // how long a replication server may take to give a replica up that is moved
	ReplicaBoot time.Duration // from launch to the first report of a replication server, before it is a problem
	AgentGone   time.Duration // how long a disconnected agent may be silent before it counts as gone
	Poll        time.Duration
}

// Staging brings up and tears down. It is safe for concurrent use with different servers.
type Staging struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	cloud   Cloud
	bus     Bus
	logger  hclog.Logger

	assign   sync.Mutex         // one choice of a replication server at a time
	launches singleflight.Group // by replication server

	mu    sync.Mutex
	pause map[string]pause     // by server, after failures
	moves map[string]moving    // by server: since when this process has ordered its release
	asked map[string]time.Time // by what it was about: when the cloud was last asked
}

type pause struct {
	until time.Time
	next  time.Duration
}

// New makes a Staging.
func New(cfg Config, st *store.Store, reports *observe.Reports, c Cloud, b Bus, logger hclog.Logger) *Staging {
	return &Staging{cfg: cfg, store: st, reports: reports, cloud: c, bus: b, logger: logger, pause: map[string]pause{}, moves: map[string]moving{}, asked: map[string]time.Time{}}
}

// work is one look at one server.
type work struct {
	*Staging
	rec         protocol.Server
	settings    protocol.ServerSettings
	replication protocol.ReplicationSettings
	agent       protocol.AgentReport
	agentKnown  bool
}

func (w *work) update(ctx context.Context, change func(*protocol.Server)) error {
	rec, err := w.store.Servers.Update(ctx, w.rec.Name, func(r *protocol.Server) error { change(r); return nil })
	if err == nil {
		w.rec = rec
	}
	return err
}

// Reconcile takes one server as far as it goes now. It returns an error only when records
// cannot be written; a failed step is in the record, and is tried again later.
func (s *Staging) Reconcile(ctx context.Context, server string) error {
	rec, err := s.store.Servers.Get(server)
	if err != nil {
		return err
	}
	if rec.Wanted == protocol.WantDisconnect || rec.Wanted == protocol.WantStop || !rec.Finalized.IsZero() || rec.Lifecycle == protocol.Disconnected {
		return nil
	}
	if waiting, err := s.leave(ctx, rec); err != nil || waiting || s.paused(server) {
		return err
	}
	if rec, err = s.store.Servers.Get(server); err != nil {
		return err
	}
	settings, replication, _, ok := fleet.Settings(s.store.Applied(), server)
	if !ok {
		return nil
	}
	w := &work{Staging: s, rec: rec, settings: settings, replication: replication}
	w.agent, _, w.agentKnown = s.reports.Agent(server)
	if len(rec.Initiation) == 0 {
		if err := w.update(ctx, func(r *protocol.Server) { r.Initiation = fresh() }); err != nil {
			return err
		}
	}
	if err := w.move(ctx); err != nil {
		return err
	}
	if err := w.retype(ctx); err != nil {
		return err
	}
	for i, step := range steps {
		if ended(w.rec.Initiation[i].Status) {
			continue
		}
		if done, err := w.take(ctx, i, step); err != nil || !done {
			return err
		}
	}
	return nil
}

// ended says that a step need not be taken any more.
func ended(s protocol.StepStatus) bool {
	return s == protocol.StepSucceeded || s == protocol.StepSkipped
}

func fresh() []protocol.Initiation {
	var out []protocol.Initiation
	for _, step := range protocol.InitiationSteps {
		out = append(out, protocol.Initiation{Step: step, Status: protocol.StepNotStarted})
	}
	return out
}

// take runs one step, and records how it went.
func (w *work) take(ctx context.Context, i int, step stepFunc) (bool, error) {
	if w.rec.Initiation[i].Status != protocol.StepInProgress {
		if err := w.mark(ctx, i, protocol.StepInProgress, "", nil); err != nil {
			return false, err
		}
	}
	name := protocol.InitiationSteps[i]
	done, detail, err := step(ctx, w)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		w.logger.Warn("initiation step failed", "server", w.rec.Name, "step", name, "error", err)
		w.backOff(w.rec.Name)
		return false, w.mark(ctx, i, protocol.StepFailed, err.Error(), ProblemOf(err, w.rec.Name, string(name)))
	}
	w.mu.Lock()
	delete(w.pause, w.rec.Name)
	w.mu.Unlock()
	if !done {
		return false, w.mark(ctx, i, protocol.StepInProgress, detail, nil)
	}
	w.logger.Info("initiation step done", "server", w.rec.Name, "step", name)
	status := protocol.StepSucceeded
	if name == protocol.StepDownloadSoftware {
		status = protocol.StepSkipped
	}
	return true, w.mark(ctx, i, status, detail, nil)
}

func (w *work) mark(ctx context.Context, i int, status protocol.StepStatus, detail string, problem *protocol.Problem) error {
	return w.update(ctx, func(r *protocol.Server) {
		if len(r.Initiation) <= i {
			return // torn down meanwhile
		}
		step := &r.Initiation[i]
		if step.Status != status || step.Detail != detail {
			step.Status, step.Detail, step.At = status, detail, time.Now()
		}
		// What comes next is begun in the same write: the bus syncs each.
		if ended(status) && i+1 < len(r.Initiation) && r.Initiation[i+1].Status == protocol.StepNotStarted {
			next := &r.Initiation[i+1]
			next.Status, next.Detail, next.At = protocol.StepInProgress, "", step.At
		}
		if problem != nil || (r.Problem != nil && r.Problem.Step == string(step.Step)) {
			r.Problem = problem
		}
	})
}

func (s *Staging) paused(server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.pause[server].until)
}

func (s *Staging) backOff(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pause[server]
	p.next = min(max(2*p.next, s.cfg.Retry), time.Minute)
	p.until = time.Now().Add(p.next)
	s.pause[server] = p
}

// ProblemOf turns an error into what a person is shown.
func ProblemOf(err error, server, step string) *protocol.Problem {
	if p, ok := errors.AsType[*protocol.Problem](err); ok {
		out := *p
		out.Server, out.Step, out.At = server, step, time.Now()
		return &out
	}
	p := &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error(), Hint: hint.Of(err), Server: server, Step: step, At: time.Now()}
	if _, ok := errors.AsType[*cloud.Error](err); ok {
		p.Code = protocol.ProblemCloud
	}
	if cloud.Expired(err) {
		p.Code = protocol.ProblemCredentials
	}
	return p
}

// Token derives a client token from what is to be made, so that a repeated call is recognised by EC2.
func Token(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
	return "rehost-" + hex.EncodeToString(h.Sum(nil)[:20])
}

// random returns 2n hexadecimal digits.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/jsonfile"
	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
	"rehost/protocol"
)

const (
	// patience is for one job, with a kill at each of its boundaries.
	patience  = 10 * time.Minute
	poolBytes = 2 << 30 // of the cloud's volumes; sparse
)

// world is a local cloud behind a proxy, a controller in a process of its own, which is killed and started again, and the agents.
type world struct {
	t        *testing.T
	dir      string
	cloud    cloud.Config // not through the proxy
	bus      protocol.Bus
	stage    stage
	operator *nats.Conn
	made     *ledger
	force    string // why jobs are started against the lifecycle's word; empty: they are not

	snapshots string // folder with the files behind the cloud's snapshots

	mu       sync.Mutex       // guards the fields beneath
	children map[string]*part // controllers, by name
	leader   string           // name of the one that leads
	mortal   bool
	stalls   int
	seen     map[string]bool // boundaries at which it was killed
}

// cast says which controllers there are: one beside a bus, unless it says otherwise.
type cast struct {
	own   bool     // one that runs its bus itself, which is then killed with it
	names []string // these, of which one leads
}

// lease is how long a leader leads that is not heard of. What is done in a moment's delay is the same with a longer one.
const lease = 600 * time.Millisecond

// needCrash skips a test that takes minutes, unless it was asked for.
func needCrash(t *testing.T) {
	t.Helper()
	if os.Getenv("REHOST_CRASH") == "" {
		t.Skip("takes minutes: make crash")
	}
}

// newWorld brings servers to where they can be tested.
func newWorld(t *testing.T, f protocol.Fleet, c cast) *world {
	t.Helper()
	var servers []string
	for _, s := range f.Servers {
		servers = append(servers, s.Name)
	}
	w := &world{t: t, dir: t.TempDir(), made: &ledger{ids: map[string]map[string]bool{}}, seen: map[string]bool{}, children: map[string]*part{}}
	w.openCloud([]string{os.Args[0], "replicaserver", w.dir})
	server, identities := w.enrol(servers)
	next := func() {}
	if c.own {
		server.Close()
		w.keepAlive([]string{alone})
	} else {
		t.Cleanup(server.Close)
		w.stage.External, w.stage.Alone = &bus.Context{Bus: w.bus, Identity: identities[protocol.RoleController]}, len(c.names) == 0
		// Only this process can make identities for this bus: for the replication server, here, and nobody afterwards.
		end := w.controllerHere(server.Authority())
		names := c.names
		if len(names) == 0 {
			names = []string{alone}
		}
		next = func() { end(); w.keepAlive(names) }
	}
	w.operator = w.connect(identities[protocol.RoleOperator])
	for _, name := range servers {
		w.agent(name, w.connect(identities[name]))
	}
	w.watch(w.connect(identities[protocol.RoleController]))
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f}); err != nil {
		t.Fatal(err)
	}
	w.awaitAll(servers, protocol.ReadyForTest)
	next()
	return w
}

// controllerHere runs the controller in this process until end is called.
func (w *world) controllerHere(authority *broker.Authority) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- controller.Run(ctx, w.stage.config(), controller.Deps{Logger: hclog.NewNullLogger(), Authority: authority})
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("controller: %v", err)
		}
	}
}

// openCloud starts a local cloud whose replication servers run a program, and conversions that convert nothing.
func (w *world) openCloud(replicaServer []string) {
	w.t.Helper()
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.PoolSizeBytes, cfg.StopGrace = w.t.TempDir(), "127.0.0.1:0", poolBytes, time.Second
	cfg.Images = []localcloud.Image{
		{Name: "rehost-replicaserver", Program: replicaServer}, {Name: "rehost-convert", Program: []string{os.Args[0], "convert", w.dir}},
	}
	info, _ := cloudtest.Start(w.t, cfg, hclog.Warn, nil)
	w.snapshots = filepath.Join(cfg.Dir, "pool", "snapshots")
	w.cloud = cloud.Config{Endpoint: info.Endpoint, Region: info.Region, CredentialsFile: info.CredentialsFile, Poll: 100 * time.Millisecond, MaxBackoff: 200 * time.Millisecond}
	w.stage = stage{Dir: filepath.Join(w.dir, "controller"), Cloud: w.cloud}
	w.stage.Cloud.Endpoint = w.proxy(info.Endpoint)
	w.endConversions()
}

// enrol runs the controller's bus, and makes identities.
func (w *world) enrol(servers []string, operators ...string) (*broker.Server, map[string]bus.Identity) {
	w.t.Helper()
	server, err := broker.Listen(w.t.Context(), broker.ServerConfig{Dir: filepath.Join(w.stage.Dir, "bus"), Address: "127.0.0.1:0"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.bus = server.Bus()
	w.stage.Listen = strings.TrimPrefix(w.bus.Servers[0], "tls://")
	out := map[string]bus.Identity{}
	roles := map[string]string{protocol.RoleOperator: protocol.RoleOperator, protocol.RoleController: protocol.RoleController}
	for _, name := range servers {
		roles[name] = protocol.RoleAgent
	}
	for _, name := range operators {
		roles[name] = protocol.RoleOperator
	}
	for name, role := range roles {
		if out[name], err = server.Authority().Identity(role, name); err != nil {
			w.t.Fatal(err)
		}
	}
	return server, out
}

// connect waits for the controller's bus.
func (w *world) connect(id bus.Identity) *nats.Conn {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		nc, err := bus.Connect(w.t.Context(), bus.Context{Bus: w.bus, Identity: id}, hclog.NewNullLogger())
		if err == nil {
			w.t.Cleanup(nc.Close)
			return nc
		}
		if time.Now().After(deadline) {
			w.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// alone is the name of a controller beside which there is no other.
const alone = "alone"

// keepAlive starts controllers in processes of their own, and another one after each that was killed.
func (w *world) keepAlive(names []string) {
	w.t.Helper()
	if err := jsonfile.Write(filepath.Join(w.dir, stageFile), w.stage); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = names[0]
	for _, name := range names {
		w.children[name] = startPart(w.t, role(w.t, "controller", w.dir, nameVariable+"="+name))
	}
}

// setMortal says whether the controller is killed from now on, and returns how many were since the last time.
func (w *world) setMortal(mortal bool) (kills int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalls > 0 {
		w.t.Logf("%d leaders stood still", w.stalls)
		w.stalls = 0
	}
	w.mortal = mortal
	for _, child := range w.children {
		kills += child.takeEnds()
	}
	return kills
}

// stallEvery is after how many boundaries the leader of several is not killed but stands still, until another one has led for a while.
const stallEvery = 8

// boundary kills the controller that leads with SIGKILL, the first time that it comes here.
func (w *world) boundary(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mortal || w.seen[what] {
		return
	}
	w.seen[what] = true
	child := w.children[w.leader]
	if len(w.children) == 1 || len(w.seen)%stallEvery > 0 {
		child.signal(syscall.SIGKILL)
		return
	}
	if still := child.signal(syscall.SIGSTOP); still != nil {
		w.stalls++
		time.AfterFunc(3*lease, func() { _ = still.Signal(syscall.SIGCONT) })
	}
}

// follow notes who leads.
func (w *world) follow(js jetstream.JetStream) {
	w.t.Helper()
	kv, err := bus.EnsureLease(w.t.Context(), js)
	if err != nil {
		w.t.Fatal(err)
	}
	watcher, err := kv.WatchAll(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { // ends with the test's context
		for u := range watcher.Updates() {
			var l protocol.Lease
			if u == nil || bus.Decode(u.Value(), &l) != nil {
				continue
			}
			w.mu.Lock()
			if _, ok := w.children[l.Holder]; ok {
				w.leader = l.Holder
			}
			w.mu.Unlock()
		}
	}()
}

// changing are the calls after which nothing is as before.
var changing = []string{
	"RunInstances", "CreateVolume", "AttachVolume", "CreateSnapshots", "CreateSnapshot", "RegisterImage", "TerminateInstances", "DetachVolume", "DeleteVolume",
	"DeregisterImage", "DeleteSnapshot", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupEgress",
}

// proxy passes calls on to the local cloud. After one that changed something the controller is killed before it hears the answer:
// before it writes the record that would tell of it.
func (w *world) proxy(endpoint string) string {
	w.t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		// The call goes on when its caller is dead.
		p.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
		form, err := url.ParseQuery(string(body))
		if action := form.Get("Action"); err == nil && slices.Contains(changing, action) && answer.Code == http.StatusOK {
			w.made.note(action, answer.Body.String())
			w.boundary(string(body))
		}
		maps.Copy(rw.Header(), answer.Header())
		rw.WriteHeader(answer.Code)
		_, _ = rw.Write(answer.Body.Bytes()) // nobody may be there
	}))
	w.t.Cleanup(server.Close)
	return server.URL
}

// ledger is what was made in the cloud, by the call: each thing once, however often its call was answered.
type ledger struct {
	mu  sync.Mutex
	ids map[string]map[string]bool
}

var madeID = map[string]*regexp.Regexp{
	"RunInstances": regexp.MustCompile(`<instanceId>([^<]+)`), "CreateVolume": regexp.MustCompile(`<volumeId>([^<]+)`),
	"CreateSnapshots": regexp.MustCompile(`<snapshotId>([^<]+)`), "CreateSnapshot": regexp.MustCompile(`<snapshotId>([^<]+)`),
	"RegisterImage": regexp.MustCompile(`<imageId>([^<]+)`),
}

func (l *ledger) note(action, answer string) {
	pattern, ok := madeID[action]
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids[action] == nil {
		l.ids[action] = map[string]bool{}
	}
	for _, m := range pattern.FindAllStringSubmatch(answer, -1) {
		l.ids[action][m[1]] = true
	}
}

func (l *ledger) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for action, ids := range l.ids {
		out[action] = len(ids)
	}
	return out
}

// watch kills the controller as soon as a record of a job, of a server or of a point is written.
func (w *world) watch(nc *nats.Conn) {
	w.t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.stage.External != nil && !w.stage.Alone {
		w.follow(js)
	}
	for _, bucket := range []string{protocol.BucketJobs, protocol.BucketServers, protocol.BucketPoints} {
		kv, err := js.KeyValue(w.t.Context(), bucket)
		for range 100 {
			if err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
			kv, err = js.KeyValue(w.t.Context(), bucket)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		watcher, err := kv.WatchAll(w.t.Context(), jetstream.UpdatesOnly())
		if err != nil {
			w.t.Fatal(err)
		}
		go func() { // ends with the test's context
			for u := range watcher.Updates() {
				if u != nil {
					w.boundary(u.Key() + string(u.Value()))
				}
			}
		}()
	}
}

// endConversions stops the instance of each conversion that has reported: a process cannot power its instance off.
func (w *world) endConversions() {
	client, err := cloud.Open(w.t.Context(), w.cloud)
	if err != nil {
		w.t.Fatal(err)
	}
	w.loop(func(ctx context.Context) {
		all, err := client.Instances(ctx, cloud.Tags{cloud.TagRole: cloud.RoleConversion})
		if err != nil {
			return
		}
		for _, inst := range all {
			if inst.State != cloud.InstanceRunning {
				continue
			}
			console, err := client.ConsoleOutput(ctx, inst.ID)
			if err != nil {
				continue
			}
			if _, reported, err := protocol.ParseConsole(console); reported && err == nil {
				_, _ = client.StopInstance(ctx, inst.ID, nil) // or at the next look
			}
		}
	})
}

// loop calls fn every few milliseconds until the test ends.
func (w *world) loop(fn func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fn(ctx)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// agent is in sync as soon as it is ordered to replicate, and takes every point at once.
func (w *world) agent(server string, nc *nats.Conn) {
	report := protocol.AgentReport{
		Server: server, Host: protocol.Host{BootMode: "bios"},
		Disks: []protocol.DiskReport{{Name: "/dev/sda", Boot: true, SizeBytes: 1 << 30}, {Name: "/dev/sdb", SizeBytes: 1 << 30}},
	}
	w.loop(func(ctx context.Context) {
		report.At = time.Now()
		order, err := request[protocol.AgentReport, protocol.AgentOrder](ctx, nc, protocol.AgentReportSubject(server), report)
		if err == nil {
			w.obey(&report, order)
		}
	})
}

func (w *world) obey(report *protocol.AgentReport, order protocol.AgentOrder) {
	switch order.Wanted {
	case protocol.WantDisconnect:
		report.Replication = protocol.ReplicationDisconnected
	case protocol.WantReplicate:
		report.Generation, report.Replication, report.Sent = order.Generation, protocol.ReplicationContinuous, 1
	case protocol.WantNothing, protocol.WantPause, protocol.WantStop:
	}
	report.Fenced = order.Fence
	p := order.Point
	if p == nil || slices.ContainsFunc(report.Points, func(r protocol.PointReport) bool { return r.ID == p.ID }) {
		return
	}
	mark := protocol.PointMark{ID: p.ID, Grade: protocol.GradeFilesystem, Taken: time.Now(), Fenced: report.Fenced}
	if err := jsonfile.Write(markFile(w.dir, report.Server), mark); err != nil {
		w.t.Error(err)
	}
	report.Points = append(report.Points, protocol.PointReport{ID: p.ID, State: protocol.PointSent})
}

// ask asks the controller as an operator, until one is there to answer.
func ask[Req, Reply any](w *world, verb protocol.Verb, req Req) (reply Reply, err error) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		reply, err = request[Req, Reply](w.t.Context(), w.operator, protocol.OperatorSubject(verb, protocol.RoleOperator), req)
		if _, told := errors.AsType[*protocol.Problem](err); err == nil || told || time.Now().After(deadline) {
			return reply, err
		}
	}
}

func (w *world) await(what string, fn func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !fn(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
			text, _ := json.MarshalIndent(s, "", " ")
			w.t.Fatalf("waited for %s in vain; the status is %s (%v)", what, text, err)
		}
	}
}

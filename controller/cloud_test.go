package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// memoryCloud is a cloud in memory with EC2's rules of identity: client tokens, unique image
// names, nothing found that was not made. It counts what is really made.
type memoryCloud struct {
	mu        sync.Mutex
	next      int
	volumes   map[string]*cloud.Volume
	snapshots map[string]*cloud.Snapshot
	images    map[string]*cloud.Image
	instances map[string]*cloud.Instance
	groups    map[string]string
	tokens    map[string]string
	userData  map[string][]byte
	specs     map[string]cloud.InstanceSpec // of instances
	made      map[string]int                // by role
	calls     map[string]int                // EC2 would have charged for these: wrong uses of the API
	broken    bool                          // conversions report a failure
	spread    bool                          // conversions write to all disks
	stuck     chan struct{}                 // terminations wait for it
	refusing  bool                          // no snapshots of an instance's volumes now
	expired   bool                          // the credentials are not valid now
	asked     map[string]cloud.VolumeSpec   // the last volume that was asked for, by role

	reading func(ctx context.Context) error // a snapshot is read

	detaching func(v cloud.Volume) // a volume is taken from an instance that lives
	busy      chan struct{}        // detachments wait for it
	slow      time.Duration        // each change takes as long
	limit     int                  // conversions that may live at once; 0: any number
	brokenFor string               // conversions of this server report a failure
	booting   bool                 // targets show no login yet

	firstBoot  map[string]int    // exit codes of scripts of the first boot, by name
	firstBoots map[string]string // what these say on the console of a server's targets

	denied  []string // actions that are not allowed
	untried []string // those of which nobody can tell
	cores   float64  // that may run; 0: any number

	running func(spec cloud.InstanceSpec)              // an instance is asked for; may be nil
	changed func()                                     // after every real change, before the answer
	started func(inst cloud.Instance, userData []byte) // a replication server boots
}

func (c *memoryCloud) setBroken(broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = broken
}

func (c *memoryCloud) setBooting(booting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.booting = booting
}

func newMemoryCloud() *memoryCloud {
	return &memoryCloud{
		volumes: map[string]*cloud.Volume{}, snapshots: map[string]*cloud.Snapshot{}, images: map[string]*cloud.Image{},
		instances: map[string]*cloud.Instance{}, groups: map[string]string{}, tokens: map[string]string{},
		asked: map[string]cloud.VolumeSpec{}, userData: map[string][]byte{}, specs: map[string]cloud.InstanceSpec{}, made: map[string]int{}, calls: map[string]int{}, changed: func() {},
		firstBoots: map[string]string{},
	}
}

// bootFirst is what scripts of the first boot say on the console of the instance that they were brought to.
func (c *memoryCloud) bootFirst(scripts []protocol.Script) string {
	var console strings.Builder
	for i, s := range protocol.ScriptsOf(scripts, protocol.ScriptFirstBoot) {
		file := fmt.Sprintf("%02d-%s", i+1, s.Name)
		_, _ = fmt.Fprintf(&console, "%[1]s%[2]s begins\nhere is %[2]s\n%[1]s%[2]s ended with %[3]d\n", protocol.FirstBootWord, file, c.firstBoot[s.Name])
	}
	return console.String()
}

func (c *memoryCloud) id(kind string) string {
	c.next++
	return fmt.Sprintf("%s-%017x", kind, c.next)
}

// change does one call: fn says whether it really changed anything.
func (c *memoryCloud) change(ctx context.Context, fn func() bool) error {
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	if c.expired {
		c.mu.Unlock()
		return &cloud.Error{Op: "change anything", Code: "RequestExpired"}
	}
	did := fn()
	c.mu.Unlock()
	if did {
		c.changed()
	}
	return ctx.Err() // the answer is lost when the caller was cut off meanwhile
}

func matches(have, want cloud.Tags) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func absent(what string) error { return fmt.Errorf("%s: no such thing", what) }

func (c *memoryCloud) FindImage(_ context.Context, name string) (cloud.Image, error) {
	return cloud.Image{ID: "ami-" + name, Name: name}, nil
}

func (c *memoryCloud) Images(_ context.Context, tags cloud.Tags) ([]cloud.Image, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return selectBy(c.images, func(i *cloud.Image) bool { return matches(i.Tags, tags) }), nil
}

func selectBy[T any](all map[string]*T, keep func(*T) bool) []T {
	var out []T
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if keep(all[k]) {
			out = append(out, *all[k])
		}
	}
	return out
}

func (c *memoryCloud) RegisterImage(ctx context.Context, spec cloud.ImageSpec, _ cloud.Progress) (out cloud.Image, err error) {
	err = c.change(ctx, func() bool {
		for _, i := range c.images {
			if i.Name == spec.Name {
				out = *i
				return false
			}
		}
		out = cloud.Image{ID: c.id("ami"), Name: spec.Name, State: "available", Tags: spec.Tags, Snapshots: append([]string{spec.Root}, spec.Data...)}
		for _, s := range out.Snapshots {
			if c.snapshots[s] == nil {
				c.calls["image of an unknown snapshot"]++
			}
		}
		c.images[out.ID] = &out
		c.made[cloud.RoleImage]++
		return true
	})
	return out, err
}

func (c *memoryCloud) DeregisterImage(ctx context.Context, id string) error {
	return c.change(ctx, func() bool { _, ok := c.images[id]; delete(c.images, id); return ok })
}

func (c *memoryCloud) EnsureSecurityGroup(ctx context.Context, spec cloud.GroupSpec) (id string, err error) {
	err = c.change(ctx, func() bool {
		if c.groups[spec.Name] != "" {
			id = c.groups[spec.Name]
			return false
		}
		id = c.id("sg")
		c.groups[spec.Name] = id
		return true
	})
	return id, err
}

func (c *memoryCloud) ZoneOf(context.Context, string) (string, error) { return "z1", nil }

func (c *memoryCloud) RunInstance(ctx context.Context, spec cloud.InstanceSpec) (out cloud.Instance, err error) {
	full := false
	if c.running != nil {
		c.running(spec)
	}
	err = c.change(ctx, func() bool {
		for _, i := range c.instances {
			if i.Alive() && matches(i.Tags, spec.Tags) {
				out = *i
				return false
			}
		}
		if id := c.tokens[spec.Token]; id != "" {
			out = *c.instances[id]
			return false
		}
		role := spec.Tags[cloud.TagRole]
		if full = role == cloud.RoleConversion && c.limit != 0 && c.alive(role) >= c.limit; full {
			return false
		}
		inst := &cloud.Instance{ID: c.id("i"), State: cloud.InstanceRunning, Zone: "z1", Private: "127.0.0.1", Tags: spec.Tags, Image: spec.Image, Launched: time.Now()}
		c.specs[inst.ID] = spec
		c.instances[inst.ID], c.tokens[spec.Token], c.userData[inst.ID] = inst, inst.ID, spec.UserData
		c.made[role]++
		if role == cloud.RoleReplicaServer {
			c.started(*inst, spec.UserData)
		}
		out = *inst
		return true
	})
	if full {
		return out, &cloud.Error{Op: "run an instance", Code: "VcpuLimitExceeded"}
	}
	return out, err
}

// alive counts the instances of a role that live; the caller holds mu.
func (c *memoryCloud) alive(role string) (n int) {
	for _, i := range c.instances {
		if i.Alive() && i.Tags[cloud.TagRole] == role {
			n++
		}
	}
	return n
}

func (c *memoryCloud) Instance(_ context.Context, id string) (cloud.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.instances[id]; ok {
		return *i, nil
	}
	return cloud.Instance{}, absent(id)
}

func (c *memoryCloud) Instances(_ context.Context, tags cloud.Tags) ([]cloud.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return selectBy(c.instances, func(i *cloud.Instance) bool { return matches(i.Tags, tags) }), nil
}

func (c *memoryCloud) WaitInstance(ctx context.Context, id, state string, _ cloud.Progress) (cloud.Instance, error) {
	for {
		i, err := c.Instance(ctx, id)
		if err != nil || i.State == state {
			return i, err
		}
		select {
		case <-ctx.Done():
			return i, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TerminateInstance leaves the volumes attached, as EC2 does for a while.
func (c *memoryCloud) TerminateInstance(ctx context.Context, id string, _ cloud.Progress) error {
	c.mu.Lock()
	stuck := c.stuck
	c.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.change(ctx, func() bool {
		i := c.instances[id]
		if i == nil || !i.Alive() {
			return false
		}
		i.State = cloud.InstanceTerminated
		return true
	})
}

func (c *memoryCloud) Screenshot(_ context.Context, id string) ([]byte, error) {
	return []byte("screen of " + id), nil
}

func (c *memoryCloud) ConsoleOutput(_ context.Context, id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instances[id] == nil {
		return "", absent(id)
	}
	if c.instances[id].Tags[cloud.TagRole] != cloud.RoleConversion {
		if c.booting {
			return "", nil
		}
		return c.firstBoots[c.instances[id].Tags[cloud.TagServer]] + "login:", nil
	}
	var o protocol.ConversionOrder
	if err := json.Unmarshal(c.userData[id], &o); err != nil {
		return "", err
	}
	c.firstBoots[o.Server] = c.bootFirst(o.Options.Scripts)
	r := &protocol.ConversionReport{
		Job: o.Job, OK: true, Guest: protocol.Guest{OS: "Debian", BootMode: "bios"}, Changes: []protocol.Change{{Path: "/etc/fstab", Action: "edit"}},
	}
	for i, d := range o.Disks {
		if i == 0 || c.spread {
			r.Written = append(r.Written, d.Volume)
		}
	}
	if c.broken || o.Server == c.brokenFor {
		r = &protocol.ConversionReport{Job: o.Job, Problem: &protocol.Problem{Code: protocol.ProblemConversion, Message: "no kernel found"}}
	}
	lines, err := protocol.ConsoleReport(r)
	return strings.Join(lines, "\n"), err
}

func (c *memoryCloud) CreateVolume(ctx context.Context, spec cloud.VolumeSpec) (out cloud.Volume, err error) {
	err = c.change(ctx, func() bool {
		if id := c.tokens[spec.Token]; id != "" {
			out = *c.volumes[id]
			return false
		}
		if spec.Snapshot != "" && c.snapshots[spec.Snapshot] == nil {
			c.calls["volume of an unknown snapshot"]++
		}
		v := &cloud.Volume{ID: c.id("vol"), State: "available", Zone: spec.Zone, Snapshot: spec.Snapshot, Type: spec.Type, SizeBytes: spec.SizeBytes, Tags: spec.Tags}
		c.volumes[v.ID], c.tokens[spec.Token] = v, v.ID
		c.made[spec.Tags[cloud.TagRole]]++
		c.asked[spec.Tags[cloud.TagRole]] = spec
		out = *v
		return true
	})
	return out, err
}

func (c *memoryCloud) WaitVolume(_ context.Context, id string, _ cloud.Progress) (cloud.Volume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.volumes[id]; ok {
		return *v, nil
	}
	return cloud.Volume{}, absent(id)
}

// AttachVolume also lets a conversion do its work: it stops as soon as it has its volumes.
func (c *memoryCloud) AttachVolume(ctx context.Context, volume, instance string, _ cloud.Progress) (err error) {
	errCall := c.change(ctx, func() bool {
		v, i := c.volumes[volume], c.instances[instance]
		if v != nil && v.Instance != "" && v.Instance != instance {
			c.calls["attachment of a volume that another instance may still write to"]++
		}
		if v == nil || i == nil || !i.Alive() || (v.Instance != "" && v.Instance != instance) {
			err = absent("attachment of " + volume + " to " + instance)
			return false
		}
		if v.Instance == instance {
			return false
		}
		v.Instance, v.Attachment = instance, "attached"
		if i.Tags[cloud.TagRole] == cloud.RoleConversion && c.fed(instance) {
			i.State = cloud.InstanceStopped
		}
		return true
	})
	if err == nil {
		err = errCall
	}
	return err
}

// fed tells whether a conversion has all of its volumes.
func (c *memoryCloud) fed(instance string) bool {
	var o protocol.ConversionOrder
	if json.Unmarshal(c.userData[instance], &o) != nil {
		return false
	}
	return !slices.ContainsFunc(o.Disks, func(d protocol.ConversionDisk) bool {
		return c.volumes[d.Volume] == nil || c.volumes[d.Volume].Instance != instance
	})
}

func (c *memoryCloud) Volumes(_ context.Context, tags cloud.Tags) ([]cloud.Volume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return selectBy(c.volumes, func(v *cloud.Volume) bool { return matches(v.Tags, tags) }), nil
}

func (c *memoryCloud) DetachVolume(ctx context.Context, id string, _ cloud.Progress) error {
	c.mu.Lock()
	busy := c.busy
	c.mu.Unlock()
	if busy != nil {
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return c.change(ctx, func() bool {
		v := c.volumes[id]
		if v == nil || v.Instance == "" {
			return false
		}
		if i := c.instances[v.Instance]; i != nil && i.Alive() {
			c.detaching(*v)
		}
		v.Instance, v.Attachment = "", ""
		return true
	})
}

func (c *memoryCloud) InstanceType(_ context.Context, name string) (cloud.Type, error) {
	return cloud.Type{Name: name, Cores: 2, BootModes: []string{"bios"}}, nil
}

func (c *memoryCloud) NetworkOf(_ context.Context, subnet string) (cloud.Network, error) {
	if subnet != "subnet-1" && subnet != "subnet-2" {
		return cloud.Network{}, &cloud.Error{Op: "describe subnet " + subnet, Code: "InvalidSubnetID.NotFound"}
	}
	return cloud.Network{ID: "vpc-1", Zone: "z1", CIDR: "10.0.0.0/8", Free: 1000}, nil
}

func (c *memoryCloud) Offered(context.Context, string, string) (bool, error) { return true, nil }

func (c *memoryCloud) GroupNetwork(context.Context, string) (string, error) { return "vpc-1", nil }

func (c *memoryCloud) StopInstance(ctx context.Context, id string, _ cloud.Progress) (out cloud.Instance, err error) {
	err = c.change(ctx, func() bool {
		i := c.instances[id]
		changed := i.State != cloud.InstanceStopped
		i.State = cloud.InstanceStopped
		out = *i
		return changed
	})
	return out, err
}

func (c *memoryCloud) StatusChecks(context.Context, string) (system, instance string, err error) {
	return "ok", "ok", nil
}

func (c *memoryCloud) Impairment(context.Context, string) (string, error) { return "", nil }

func (c *memoryCloud) DeleteVolume(ctx context.Context, id string) error {
	return c.change(ctx, func() bool { _, ok := c.volumes[id]; delete(c.volumes, id); return ok })
}

func (c *memoryCloud) SnapshotVolumes(ctx context.Context, instance string, volumes []string, tags cloud.Tags) (out []cloud.Snapshot, err error) {
	c.mu.Lock()
	refusing := c.refusing
	c.mu.Unlock()
	if refusing {
		return nil, errors.New("snapshots: InternalError")
	}
	err = c.change(ctx, func() bool {
		for _, v := range volumes {
			for _, s := range c.snapshots {
				if s.Volume == v && matches(s.Tags, tags) {
					out = append(out, *s)
				}
			}
		}
		if len(out) == len(volumes) {
			return false
		}
		for _, v := range volumes {
			if c.volumes[v] == nil || c.volumes[v].Instance != instance {
				c.calls["snapshot of a volume that is not attached"]++
			}
			s := c.snapshot(v, tags)
			out = append(out, *s)
		}
		return true
	})
	return out, err
}

func (c *memoryCloud) snapshot(volume string, tags cloud.Tags) *cloud.Snapshot {
	s := &cloud.Snapshot{ID: c.id("snap"), Volume: volume, State: "completed", Tags: tags}
	c.snapshots[s.ID] = s
	c.made[tags[cloud.TagRole]]++
	return s
}

func (c *memoryCloud) SnapshotVolume(ctx context.Context, volume string, tags cloud.Tags) (out cloud.Snapshot, err error) {
	err = c.change(ctx, func() bool {
		for _, s := range c.snapshots {
			if s.Volume == volume && matches(s.Tags, tags) {
				out = *s
				return false
			}
		}
		out = *c.snapshot(volume, tags)
		return true
	})
	return out, err
}

func (c *memoryCloud) Snapshots(_ context.Context, tags cloud.Tags) ([]cloud.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return selectBy(c.snapshots, func(s *cloud.Snapshot) bool { return matches(s.Tags, tags) }), nil
}

func (c *memoryCloud) WaitSnapshots(ctx context.Context, _ []string, _ cloud.Progress) error {
	return ctx.Err()
}

func (c *memoryCloud) DeleteSnapshot(ctx context.Context, id string) error {
	return c.change(ctx, func() bool { _, ok := c.snapshots[id]; delete(c.snapshots, id); return ok })
}

// left lists what is in the cloud now, by role.
func (c *memoryCloud) left() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for _, v := range c.volumes {
		out[v.Tags[cloud.TagRole]]++
	}
	for _, s := range c.snapshots {
		out[s.Tags[cloud.TagRole]]++
	}
	for _, i := range c.images {
		out[i.Tags[cloud.TagRole]]++
	}
	for _, i := range c.instances {
		if i.Alive() {
			out[i.Tags[cloud.TagRole]]++
		}
	}
	return out
}

// SnapshotHashes plays snapshots of zeros, whose hashes are no hashes: what they are is for others to test.
func (c *memoryCloud) SnapshotHashes(ctx context.Context, snapshot string, _, length, granule int64) ([]byte, error) {
	if c.reading != nil {
		if err := c.reading(ctx); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snapshots[snapshot] == nil {
		return nil, errors.New("no snapshot " + snapshot)
	}
	return bytes.Repeat([]byte(snapshot[len(snapshot)-16:]), int(length/granule)), nil
}

package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"rehost/internal/hint"
	"rehost/localcloud/internal/imds"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

// How a process instance that died is started again: at once, then later and
// later, as long as it does not stay up for a while.
const (
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
	stayedUp     = 10 * time.Second
)

// supervise owns one instance from its start to its end: it runs its metadata
// service and its process, and records what becomes of it.
func (c *Cloud) supervise(ctx context.Context, id string, k *control) {
	log := c.Log.With("instance", id)
	defer c.release(id, k)
	stopMetadata, err := c.serveMetadata(id)
	if err != nil {
		log.Error("metadata service did not start", "error", err)
		c.end(ctx, id, err)
		return
	}
	defer stopMetadata()
	backoff := firstBackoff
	if c.Store.View().Instances[id].Phase == state.Pending {
		c.linger(ctx)
	}
	for {
		began := time.Now()
		running, err := c.bring(ctx, id, k)
		if err == nil {
			log.Info("instance runs", "pid", running.Proc().PID)
			err = c.watch(ctx, running, k)
			c.setRunning(k, nil)
		}
		in := c.Store.View().Instances[id]
		again := in.Kind == state.Process && in.Phase != state.Stopping && in.Phase != state.ShuttingDown && ctx.Err() == nil
		if !again {
			c.end(ctx, id, err)
			return
		}
		if time.Since(began) > stayedUp {
			backoff = firstBackoff
		}
		log.Warn("process instance ended, starting it again", "after", backoff.String(), "error", err)
		if !c.pause(ctx, k, backoff) {
			c.end(ctx, id, nil)
			return
		}
		backoff = min(backoff*2, lastBackoff)
	}
}

// pause waits before a restart. It returns false when the instance should stop instead.
func (c *Cloud) pause(ctx context.Context, k *control, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.stop:
	case <-ctx.Done():
	}
	return false
}

// bring adopts the instance's process when it still runs, else starts it, and
// records it. Attachments do not change meanwhile.
func (c *Cloud) bring(ctx context.Context, id string, k *control) (*instance.Running, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	in := st.Instances[id]
	spec := c.spec(st, in)
	r, ok := instance.Adopt(spec, in.Proc)
	if !ok {
		// A process that was started but not yet recorded when its owner was killed.
		instance.KillStrays(id)
	}
	switch {
	case ok && onWayDown(in):
		k.ask(c.StopGrace)
	case ok:
	case onWayDown(in):
		return nil, errors.New("nothing runs any more")
	case in.Kind == state.Guest && in.Phase == state.Running:
		return nil, errors.New("the guest ended while the local cloud was away")
	default:
		var err error
		if r, err = c.Host.Start(ctx, spec); err != nil {
			return nil, err
		}
	}
	err := c.Store.Update(func(st *state.State) error {
		in := st.Instances[id]
		in.Proc = r.Proc()
		if in.Phase == state.Pending {
			in.Phase = state.Running
		}
		return nil
	})
	if err != nil {
		// What is not recorded would not be found again.
		r.Kill()
		return nil, errors.Join(err, r.Wait(context.WithoutCancel(ctx)))
	}
	c.setRunning(k, r)
	return r, nil
}

func (c *Cloud) setRunning(k *control, r *instance.Running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.running = r
}

// watch waits for the end of the process, and brings it about when asked.
func (c *Cloud) watch(ctx context.Context, r *instance.Running, k *control) error {
	ended := make(chan error, 1)
	go func() { ended <- r.Wait(context.WithoutCancel(ctx)) }()
	kill := time.NewTimer(time.Hour)
	kill.Stop()
	defer kill.Stop()
	stop := func(grace time.Duration) {
		if grace <= 0 || r.PowerDown(context.WithoutCancel(ctx)) != nil {
			r.Kill()
			return
		}
		kill.Reset(grace)
	}
	closing := ctx.Done()
	for {
		select {
		case err := <-ended:
			return err
		case grace := <-k.stop:
			stop(grace)
		case <-closing:
			closing = nil
			stop(c.StopGrace)
		case <-kill.C:
			r.Kill()
		}
	}
}

func onWayDown(in *state.Instance) bool {
	return in.Phase == state.Stopping || in.Phase == state.ShuttingDown
}

// end records the end of an instance: what was asked for, or what the guest did
// by itself. cause is nil when the guest powered down.
func (c *Cloud) end(ctx context.Context, id string, cause error) {
	if cause != nil && ctx.Err() == nil {
		c.Log.Warn("instance ended", "instance", id, "error", cause)
	}
	if onWayDown(c.Store.View().Instances[id]) {
		c.linger(ctx)
	}
	over := false
	err := c.Store.Update(func(st *state.State) error {
		in := st.Instances[id]
		in.Proc = state.Proc{}
		switch {
		case in.Phase == state.ShuttingDown:
			over = true
		case in.Phase == state.Stopping:
			in.Phase = state.Stopped
		case ctx.Err() != nil && in.Kind == state.Process:
			// Its phase stays, so that the next start brings it back.
		case ctx.Err() != nil:
			in.Phase, in.ReasonCode, in.Reason = state.Stopped, "Server.ScheduledStop", "The local cloud was stopped"
		case cause != nil:
			in.Phase, in.ReasonCode, in.Reason = state.Stopped, "Server.InternalError", explain(cause)
		default:
			in.Phase, in.ReasonCode, in.Reason = state.Stopped, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
			if in.OnShutdown == "terminate" {
				in.Phase, over = state.ShuttingDown, true
			}
		}
		return nil
	})
	if over && err == nil {
		err = c.terminated(id)
	}
	if err != nil {
		c.Log.Error("end of an instance was not recorded", "instance", id, "error", err)
		return
	}
	c.Log.Info("instance ended", "instance", id, "state", string(c.Store.View().Instances[id].Phase))
}

// explain is what a client reads of an error: with the next step, which the error's text has not.
func explain(err error) string {
	if h := hint.Of(err); h != "" {
		return err.Error() + " (" + h + ")"
	}
	return err.Error()
}

// terminated records that an instance is over and deletes the volumes that go with it.
func (c *Cloud) terminated(id string) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	var gone []string
	err := c.Store.Update(func(st *state.State) error {
		in := st.Instances[id]
		for _, v := range st.VolumesOf(in) {
			if v.Attachment.DeleteOnTermination {
				gone = append(gone, v.ID)
				delete(st.Volumes, v.ID)
				delete(st.Tags, v.ID)
			}
			v.Attachment = nil
		}
		in.Phase, in.Proc, in.Ended = state.Terminated, state.Proc{}, time.Now()
		return nil
	})
	if err != nil {
		return err
	}
	for _, v := range gone {
		err = errors.Join(err, os.Remove(c.VolumePath(v)))
	}
	// The console stays as long as the instance is described; the rest of its folder is over.
	dir := c.instanceDir(id)
	console := filepath.Base(instance.ConsolePath(dir))
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != console {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func (c *Cloud) spec(st *state.State, in *state.Instance) instance.Spec {
	t, _ := instanceType(in.Type)
	s := instance.Spec{
		ID: in.ID, Kind: in.Kind, Dir: c.instanceDir(in.ID), Metadata: in.MetadataAddress, Type: in.Type, VCPUs: t.VCPUs, MemoryMiB: t.MemoryMiB, Program: in.Program,
		UEFI: BootMode(in) == uefi,
	}
	for _, n := range in.Interfaces {
		s.Interfaces = append(s.Interfaces, instance.Interface{
			Address: n.Address, MAC: n.MAC, Ports: st.OpenPorts(n.Groups), Outbound: c.Outbound && st.MayLeave(n.Groups),
		})
	}
	for _, v := range st.VolumesOf(in) {
		s.Disks = append(s.Disks, instance.Disk{VolumeID: v.ID, Path: c.VolumePath(v.ID)})
	}
	return s
}

// serveMetadata starts an instance's metadata service and returns how to stop it.
func (c *Cloud) serveMetadata(id string) (stop func(), err error) {
	in := c.Store.View().Instances[id]
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", in.MetadataAddress)
	if err != nil {
		return nil, fmt.Errorf("serve metadata: %w", err)
	}
	srv := &http.Server{Handler: imds.New(func() (imds.Document, bool) { return c.document(id) }), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("metadata service ended", "instance", id, "error", err)
		}
	}()
	return func() {
		_ = srv.Close()
		<-ended
	}, nil
}

// document is what an instance may know of itself.
func (c *Cloud) document(id string) (imds.Document, bool) {
	st := c.Store.View()
	in := st.Instances[id]
	if in == nil {
		return imds.Document{}, false
	}
	d := imds.Document{
		InstanceID: in.ID, ImageID: in.ImageID, InstanceType: in.Type, Architecture: in.Architecture, Account: c.Account, Region: c.Region,
		Zone: in.Zone, Hostname: Hostname(in, c.Region), PublicIPv4: in.First().Address, ReservationID: in.ReservationID, LaunchIndex: in.LaunchIndex, Profile: in.Profile,
		Devices: map[string]string{}, UserData: in.UserData, Pending: in.Launched,
		TokenOptional: in.Metadata.Tokens == "optional", Disabled: in.Metadata.Endpoint == "disabled",
	}
	if k := st.KeyNamed(in.KeyName); k != nil {
		d.KeyName, d.PublicKey = k.Name, k.Public
	}
	for _, n := range in.Interfaces {
		d.Interfaces = append(d.Interfaces, imds.Interface{ID: n.ID, MAC: n.MAC, LocalIPv4: n.Address, SubnetID: n.SubnetID})
	}
	for _, g := range in.First().Groups {
		if st.Groups[g] != nil {
			d.SecurityGroups = append(d.SecurityGroups, st.Groups[g].Name)
		}
	}
	for i, v := range st.VolumesOf(in) {
		if v.Attachment.Device == in.RootDevice {
			d.Devices["ami"], d.Devices["root"] = v.Attachment.Device, v.Attachment.Device
			continue
		}
		d.Devices[fmt.Sprintf("ebs%d", i)] = v.Attachment.Device
	}
	if in.Metadata.Tags == "enabled" {
		d.Tags = st.Tags[id]
	}
	return d, true
}

// Hostname is the private DNS name of an instance.
func Hostname(in *state.Instance, region string) string {
	b := []byte(in.First().Address)
	for i := range b {
		if b[i] == '.' {
			b[i] = '-'
		}
	}
	return "ip-" + string(b) + "." + region + ".compute.internal"
}

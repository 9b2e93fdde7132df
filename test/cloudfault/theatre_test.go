package cloudfault

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// theatre is the driver, real in every call, with instances whose programs are played: a
// conversion is over as soon as it has the last of its volumes, and a replication server is a loop of the test.
type theatre struct {
	*cloud.Client
	booted func(instance string, userData []byte)

	mu       sync.Mutex
	userData map[string][]byte // by instance
	stopped  map[string]bool   // conversions that are over
}

func (c *theatre) RunInstance(ctx context.Context, spec cloud.InstanceSpec) (cloud.Instance, error) {
	inst, err := c.Client.RunInstance(ctx, spec)
	if err != nil || len(spec.UserData) == 0 {
		return inst, err
	}
	c.mu.Lock()
	_, known := c.userData[inst.ID]
	c.userData[inst.ID] = spec.UserData
	c.mu.Unlock()
	if !known && spec.Tags[cloud.TagRole] == cloud.RoleReplicaServer {
		c.booted(inst.ID, spec.UserData)
	}
	return inst, nil
}

func (c *theatre) order(instance string) (o protocol.ConversionOrder, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := json.Unmarshal(c.userData[instance], &o)
	return o, err == nil && o.Job != ""
}

func (c *theatre) AttachVolume(ctx context.Context, volume, instance string, progress cloud.Progress) error {
	err := c.Client.AttachVolume(ctx, volume, instance, progress)
	if o, converts := c.order(instance); converts && err == nil && volume == o.Disks[len(o.Disks)-1].Volume {
		c.mu.Lock()
		c.stopped[instance] = true
		c.mu.Unlock()
	}
	return err
}

func (c *theatre) WaitInstance(ctx context.Context, id, state string, progress cloud.Progress) (cloud.Instance, error) {
	c.mu.Lock()
	played := c.stopped[id] && state == cloud.InstanceStopped
	c.mu.Unlock()
	if played {
		return c.Instance(ctx, id)
	}
	return c.Client.WaitInstance(ctx, id, state, progress)
}

func (c *theatre) ConsoleOutput(ctx context.Context, id string) (string, error) {
	text, err := c.Client.ConsoleOutput(ctx, id)
	o, converts := c.order(id)
	if err != nil || !converts {
		return text, err
	}
	lines, err := protocol.ConsoleReport(&protocol.ConversionReport{
		Job: o.Job, OK: true, Guest: protocol.Guest{OS: "Debian", BootMode: "bios"}, Written: []string{o.Disks[0].Volume}, // the boot disk alone
	})
	return strings.Join(lines, "\n"), err
}

// recorder notes which actions a client asks for.
type recorder struct {
	mu    sync.Mutex
	calls map[string]int
}

func (r *recorder) client() *http.Client { return &http.Client{Transport: r} }

// RoundTrip implements [http.RoundTripper].
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil {
			r.mu.Lock()
			r.calls[form.Get("Action")]++
			r.mu.Unlock()
		}
	}
	return http.DefaultTransport.RoundTrip(req)
}

// actions are what was asked for, sorted.
func (r *recorder) actions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.calls))
}

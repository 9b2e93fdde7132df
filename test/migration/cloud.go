package migration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"rehost/internal/cloud"
)

// region is the one that the local cloud plays.
const region = "local-1"

const controllerConfig = `data_dir = "{{.Dir}}/controller"

bus {
  embedded { listen = "{{.Bus}}" }
}

cloud {
  endpoint         = "http://{{.Cloud}}"
  region           = "{{.Region}}"
  credentials_file = "{{.Credentials}}"
}
`

// StartCloud starts the local cloud and the controller: as rehost dev does, or each as a process of its own.
func (m *Migration) StartCloud(ctx context.Context) error {
	common := []string{
		"--image", "rehost-convert=" + m.convert,
		"--replicaserver", m.bin("rehost-replicaserver"),
	}
	var err error
	if !m.cfg.Split {
		args := append([]string{"dev", "--data", m.dev(), "--listen", m.bus, "--cloud-listen", m.cloud}, common...)
		if m.Controller, err = m.start("dev", m.bin("rehost"), args...); err != nil {
			return err
		}
		if err := m.waitFile(ctx, m.Controller, m.context()); err != nil {
			return err
		}
		return m.noteBase(ctx)
	}
	args := append([]string{"localcloud", "--data", filepath.Dir(m.credentials()), "--listen", m.cloud}, common...)
	if m.Cloud, err = m.start("localcloud", m.bin("rehost"), args...); err != nil {
		return err
	}
	if err := m.waitFile(ctx, m.Cloud, m.credentials()); err != nil {
		return err
	}
	if err := m.StartController(ctx); err != nil {
		return err
	}
	return m.noteBase(ctx)
}

// noteBase remembers what the cloud holds before anything is migrated: the images that it was started with.
func (m *Migration) noteBase(ctx context.Context) error {
	var err error
	m.base, err = m.inventory(ctx, "")
	return err
}

// StartController starts the controller of a split migration; again, when it has ended.
func (m *Migration) StartController(ctx context.Context) error {
	values := map[string]string{"Dir": m.cfg.Dir, "Bus": m.bus, "Cloud": m.cloud, "Region": region, "Credentials": m.credentials()}
	config := m.path("controller.hcl")
	if err := render(config, controllerConfig, 0o600, values); err != nil {
		return err
	}
	var err error
	if m.Controller, err = m.start("controller", m.bin("rehost-controller"), "run", "--config", config); err != nil {
		return err
	}
	return m.waitFile(ctx, m.Controller, m.context())
}

// dev is the data folder of rehost dev.
func (m *Migration) dev() string { return m.path("dev") }

// credentials is the file that the local cloud writes for its clients.
func (m *Migration) credentials() string { return filepath.Join(m.dev(), "cloud", "credentials") }

// context is the file that lets an operator's commands reach the controller.
func (m *Migration) context() string {
	if m.cfg.Split {
		return m.path("controller", "operator.json")
	}
	return filepath.Join(m.dev(), "context.json")
}

// waitFile waits until a process has written a file, or has ended without.
func (m *Migration) waitFile(ctx context.Context, p *Process, path string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Ended():
			return fmt.Errorf("%s ended: %w; its last words:\n%s", p.Name, p.err, p.Tail(10))
		case <-limit:
			return fmt.Errorf("%s has not written %s after a minute; its last words:\n%s", p.Name, path, p.Tail(10))
		case <-tick.C:
		}
	}
}

// Driver opens the cloud as the controller does.
func (m *Migration) Driver(ctx context.Context) (*cloud.Client, error) {
	return cloud.Open(ctx, cloud.Config{Endpoint: "http://" + m.cloud, Region: region, CredentialsFile: m.credentials()})
}

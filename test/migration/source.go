package migration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"rehost/appliance"
	"rehost/internal/command"
	"rehost/internal/pool"
	"rehost/test/image"
)

// Images builds, or finds in the cache, the source's disk and the conversion appliance.
func (m *Migration) Images(ctx context.Context) error {
	var err error
	if m.img, err = image.Build(ctx, image.Options{Progress: m.cfg.Notice}); err != nil {
		return err
	}
	m.convert, err = appliance.Build(ctx, appliance.Options{Convert: m.bin("rehost-convert"), Progress: m.cfg.Notice})
	return err
}

// StartSource attaches a copy of the source's disk, installs an agent on it and starts the application that writes.
func (m *Migration) StartSource(ctx context.Context) error {
	var err error
	if m.pool, err = pool.Open(ctx, pool.Options{Dir: m.path("source"), SizeBytes: poolBytes}); err != nil {
		return err
	}
	if err := image.Copy(ctx, m.img, m.disk()); err != nil {
		return err
	}
	if m.source, err = image.Attach(ctx, m.disk()); err != nil {
		return err
	}
	unit := filepath.Join(m.cfg.Repo, "systemd", "rehost-agent.service")
	example := filepath.Join(m.cfg.Repo, "configs", "agent.hcl")
	if err := image.InstallAgent(m.source.Root, m.bin("rehost-agent"), unit, example); err != nil {
		return err
	}
	return m.startWriter()
}

// disk is the file behind the source's disk.
func (m *Migration) disk() string { return filepath.Join(m.pool.Root(), "disk.raw") }

// Disk is the source's block device.
func (m *Migration) Disk() string { return m.source.Disk }

func (m *Migration) startWriter() error {
	var err error
	m.Writer, err = m.start("writer", m.path("bin-writer"), "-root", m.source.Root)
	if err != nil {
		return err
	}
	return os.WriteFile(m.path("writer.pid"), []byte(strconv.Itoa(m.Writer.PID())), 0o600)
}

// BuildWriter compiles the application that runs on the source.
func (m *Migration) BuildWriter(ctx context.Context) error {
	_, err := command.RunIn(ctx, m.cfg.Repo, nil, "go", "build", "-o", m.path("bin-writer"), "./test/writer/cmd")
	return err
}

// The fence stops the writer as an operator would stop a service: ask, and wait until it has ended.
const fenceScript = `#!/bin/sh
pid=$(cat {{.Dir}}/writer.pid)
kill -TERM "$pid" 2>/dev/null || exit 0
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
`

// While everything is frozen, a copy of the disk is taken that shares its blocks: what the
// snapshot of the point must equal. Only a test has a disk that it can copy in milliseconds.
const frozenScript = `#!/bin/sh
exec cp --reflink=always {{.Disk}} {{.Points}}/"$1".raw
`

const agentConfig = `server = "{{.Server}}"

bus {
  servers = ["tls://{{.Bus}}"]
  ca_file = "{{.Dir}}/agent/ca.pem"
}

token_file = "{{.Dir}}/agent/token"
state_dir  = "{{.Dir}}/agent/state"
run_dir    = "{{.Dir}}/agent/run"
pin_dir    = "{{.Dir}}/agent/bpf"
disks      = ["{{.Device}}"]
free_space = "copy" # so that the hash of the whole disk can be compared

hooks {
  fence   = ["{{.Dir}}/fence"]
  timeout = "30s"
}

debug {
  frozen_hook = ["{{.Dir}}/frozen"]
}
`

// StartAgent enrols and starts the agent. Called again, it starts one again that ended.
func (m *Migration) StartAgent(ctx context.Context) error {
	if m.Agent == nil {
		if err := m.prepareAgent(ctx); err != nil {
			return err
		}
	}
	var err error
	m.Agent, err = m.start("agent", m.bin("rehost-agent"), "run", "--config", m.path("agent", "agent.hcl"))
	return err
}

func (m *Migration) prepareAgent(ctx context.Context) error {
	points := filepath.Join(m.pool.Root(), "points")
	if err := errors.Join(os.MkdirAll(points, 0o700), os.MkdirAll(m.path("agent"), 0o700)); err != nil {
		return err
	}
	if err := m.Command(ctx, "server", "token", Server, "--out", m.path("agent")); err != nil {
		return err
	}
	values := map[string]string{
		"Server": Server, "Dir": m.cfg.Dir, "Bus": m.bus, "Device": m.source.Disk, "Disk": m.disk(), "Points": points,
	}
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{m.path("fence"), fenceScript, 0o700},
		{m.path("frozen"), frozenScript, 0o700},
		{m.path("agent", "agent.hcl"), agentConfig, 0o600},
	} {
		if err := render(f.path, f.text, f.mode, values); err != nil {
			return err
		}
	}
	return nil
}

func render(path, text string, mode os.FileMode, values any) error {
	t, err := template.New(filepath.Base(path)).Parse(text)
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := t.Execute(&out, values); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(out.String()), mode)
}

// removeAgent detaches the tracker and removes the pins: an agent that ends keeps them on purpose.
func (m *Migration) removeAgent(ctx context.Context) error {
	if m.Agent == nil {
		return nil
	}
	_, err := command.Run(ctx, m.bin("rehost-agent"), "remove", "--config", m.path("agent", "agent.hcl"))
	return err
}

// WriterEnded waits for the end of the application and returns the number of its last record.
func (m *Migration) WriterEnded(ctx context.Context) (int64, error) {
	select {
	case <-m.Writer.Ended():
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(time.Minute):
		return 0, errors.New("wait for the writer's end: it still runs after the fence")
	}
	last, err := strconv.ParseInt(strings.TrimSpace(m.Writer.Tail(1)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the writer's last words: %w", err)
	}
	return last, nil
}

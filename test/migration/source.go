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

	"golang.org/x/sys/unix"

	"rehost/appliance"
	"rehost/internal/blockdev"
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
	if err := m.addDataDisk(ctx); err != nil {
		return fmt.Errorf("make the source's data disk: %w", err)
	}
	unit := filepath.Join(m.cfg.Repo, "systemd", "rehost-agent.service")
	example := filepath.Join(m.cfg.Repo, "configs", "agent.hcl")
	if err := image.InstallAgent(m.source.Root, m.bin("rehost-agent"), unit, example); err != nil {
		return err
	}
	return m.startWriter()
}

// addDataDisk gives the source a second disk with a filesystem, which its fstab names and which is mounted.
func (m *Migration) addDataDisk(ctx context.Context) error {
	if err := errors.Join(os.WriteFile(m.data(), nil, 0o600), os.Truncate(m.data(), dataBytes)); err != nil {
		return err
	}
	if _, err := command.Run(ctx, "mkfs.ext4", "-q", "-L", dataLabel, m.data()); err != nil {
		return err
	}
	var err error
	if m.archive, err = blockdev.AttachLoop(ctx, blockdev.LoopOptions{File: m.data(), DirectIO: true}); err != nil {
		return err
	}
	point := m.archivePoint()
	if err := os.MkdirAll(point, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.archive.Path, point, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.archive.Path, point, err)
	}
	fstab, err := os.OpenFile(filepath.Join(m.source.Root, "etc/fstab"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(fstab, "LABEL=%s %s ext4 defaults 0 2\n", dataLabel, dataPoint)
	return errors.Join(err, fstab.Close(), os.WriteFile(filepath.Join(point, "minutes.txt"), []byte("of all meetings\n"), 0o600))
}

// removeDataDisk unmounts and detaches it.
func (m *Migration) removeDataDisk() error {
	if m.archive == nil {
		return nil
	}
	err := unix.Unmount(m.archivePoint(), 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
		err = nil
	}
	if err = errors.Join(err, m.archive.Detach()); err == nil {
		m.archive = nil
	}
	return err
}

const (
	dataBytes = 1 << 30 // a whole one: volumes are that
	dataLabel = "archive"
	dataPoint = "/srv/archive"
)

func (m *Migration) archivePoint() string { return filepath.Join(m.source.Root, dataPoint) }

// disk and data are the files behind the source's disks.
func (m *Migration) disk() string { return filepath.Join(m.pool.Root(), "disk.raw") }
func (m *Migration) data() string { return filepath.Join(m.pool.Root(), "data.raw") }

// Disk is the source's block device with the root.
func (m *Migration) Disk() string { return m.source.Disk }

// Root is where the source's root filesystem is mounted.
func (m *Migration) Root() string { return m.source.Root }

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

// While everything is frozen, a copy of each disk is taken that shares its blocks: what the
// snapshots of the point must equal. Only a test has disks that it can copy in milliseconds.
const frozenScript = `#!/bin/sh
cp --reflink=always {{.Disk}} {{.Points}}/"$1".raw && exec cp --reflink=always {{.Data}} {{.Points}}/"$1".data.raw
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
disks      = ["{{.Device}}", "{{.Archive}}"]
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
		"Archive": m.archive.Path, "Data": m.data(),
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

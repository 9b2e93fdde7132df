package migration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rehost/internal/command"
	"rehost/protocol"
)

// Command runs a command of the command line as a user would, with its output shown.
func (m *Migration) Command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, m.bin("rehost"), args...)
	cmd.Env = append(os.Environ(), "REHOST_CONTEXT="+m.context())
	cmd.Dir = m.cfg.Repo
	var words strings.Builder
	cmd.Stdout, cmd.Stderr = m.cfg.Out, io.MultiWriter(m.cfg.Out, &words)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("rehost %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(words.String()))
	}
	return nil
}

// query runs a command with -o json and decodes what it prints.
func (m *Migration) query(ctx context.Context, into any, args ...string) error {
	args = append(args, "-o", "json", "--context", m.context())
	out, err := command.Run(ctx, m.bin("rehost"), args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("rehost %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// Apply applies the demo's configuration.
func (m *Migration) Apply(ctx context.Context) error {
	return m.Command(ctx, "apply", "--yes", filepath.Join("configs", "demo"))
}

// Status returns the demo's server as the controller sees it.
func (m *Migration) Status(ctx context.Context) (protocol.ServerStatus, error) {
	var s protocol.Status
	if err := m.query(ctx, &s, "status"); err != nil {
		return protocol.ServerStatus{}, err
	}
	for _, server := range s.Servers {
		if server.Record.Name == Server {
			return server, nil
		}
	}
	return protocol.ServerStatus{}, fmt.Errorf("rehost status does not know %s", Server)
}

// Job returns the newest job.
func (m *Migration) Job(ctx context.Context) (protocol.Job, error) {
	var j protocol.Job
	return j, m.query(ctx, &j, "job", "show")
}

// Evidence returns the report of the wave's cutover.
func (m *Migration) Evidence(ctx context.Context) (protocol.Report, error) {
	var r protocol.Report
	return r, m.query(ctx, &r, "wave", "report", Wave)
}

// Point returns one point of the demo's server.
func (m *Migration) Point(ctx context.Context, id string) (protocol.Point, error) {
	var points []protocol.Point
	if err := m.query(ctx, &points, "point", "list", Server); err != nil {
		return protocol.Point{}, err
	}
	for _, p := range points {
		if p.ID == id {
			return p, nil
		}
	}
	return protocol.Point{}, fmt.Errorf("rehost point list does not know %s", id)
}

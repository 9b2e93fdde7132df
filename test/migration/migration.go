// Package migration runs the whole of rehost as its users do: real processes, a
// real server's disk that stays mounted and written to, the local cloud, and the
// command line. The demo shows it, the scenario tests disturb it. The package
// works in one folder and on devices that it made, and takes everything away
// again; it knows nothing of what is inside the programs that it starts.
package migration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rehost/internal/blockdev"
	"rehost/internal/pool"
	"rehost/test/image"
)

// Names that the configuration in configs/demo uses.
const (
	Server = "web-1"
	Wave   = "first"
)

// poolBytes is the size of the filesystem that holds the source's disk and its copies at
// the points; it is sparse.
const poolBytes = 16 << 30

// Config says where and how to run.
type Config struct {
	Repo   string    // the checkout: configs and systemd units are taken from it
	Bin    string    // folder with the built programs
	Dir    string    // working folder; what is in it is removed first
	Out    io.Writer // the command line's output
	Split  bool      // controller and local cloud as processes of their own, to be killed one by one
	Notice func(string)
}

// Migration is one migration of the demo's server.
type Migration struct {
	cfg     Config
	img     string // cached image of the source
	convert string // image of the conversion appliance
	pool    *pool.Pool
	source  *image.Source
	archive *blockdev.Loop // its data disk
	base    []string       // what the cloud held before the migration
	bus     string         // addresses
	cloud   string

	Controller *Process // rehost dev, or the controller when split
	Cloud      *Process // the local cloud when split
	Agent      *Process
	Writer     *Process
}

// New prepares the folder. Anything that an earlier run left in it, also one that was killed, is taken away.
func New(ctx context.Context, cfg Config) (*Migration, error) {
	for _, p := range []*string{&cfg.Repo, &cfg.Bin, &cfg.Dir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, err
		}
		*p = abs
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	if err := Sweep(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("take away what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	m := &Migration{cfg: cfg}
	for _, address := range []*string{&m.bus, &m.cloud} {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		*address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return m, nil
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Dir is the working folder.
func (m *Migration) Dir() string { return m.cfg.Dir }

// Bin is the folder with the programs.
func (m *Migration) Bin() string { return m.cfg.Bin }

// Bus is the address of the bus on this machine.
func (m *Migration) Bus() string { return m.bus }

// Image is the cached image of the source's disk.
func (m *Migration) Image() string { return m.img }

// path returns a path in the working folder.
func (m *Migration) path(parts ...string) string {
	return filepath.Join(append([]string{m.cfg.Dir}, parts...)...)
}

func (m *Migration) bin(name string) string { return filepath.Join(m.cfg.Bin, name) }

// Close ends every process and takes every device and mount away. Programs get time to do it
// themselves first. The folder stays, for its logs.
func (m *Migration) Close() error {
	// The caller's context has often ended by now: that is why we close.
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var errs []error
	for _, p := range []*Process{m.Writer, m.Agent} {
		errs = append(errs, p.Stop(15*time.Second))
	}
	errs = append(errs, m.removeAgent(ctx))
	for _, p := range []*Process{m.Controller, m.Cloud} {
		errs = append(errs, p.Stop(45*time.Second))
	}
	errs = append(errs, m.removeDataDisk())
	if m.source != nil {
		errs = append(errs, m.source.Close())
		m.source = nil
	}
	if m.pool != nil {
		errs = append(errs, m.pool.Close())
		m.pool = nil
	}
	return errors.Join(errs...)
}

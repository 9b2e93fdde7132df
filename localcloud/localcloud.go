// Package localcloud is an EC2-compatible endpoint whose things are real:
// volumes are files on a filesystem with reflinks, snapshots their clones,
// instances QEMU guests or host processes. It knows nothing of its clients. It
// owns its data folder, the mount and loop device in it, and the processes of
// its instances; when Run returns, none of them is left except the files.
package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/hint"
	"rehost/internal/pool"
	"rehost/localcloud/internal/api"
	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/imds"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

// Config says where the local cloud lives and what it offers.
type Config struct {
	// Dir is the data folder. It holds everything and outlives a restart.
	Dir string
	// Listen is the address of the endpoint, such as 127.0.0.1:4590. Port 0 picks one.
	Listen string
	// Region is the region's name; its zones are Region+"a" and Region+"b".
	Region string
	// PoolSizeBytes is the size of the sparse pool image, if Dir has no reflinks.
	PoolSizeBytes int64
	// Images are registered at start, under ids that depend on their names only.
	Images []Image
	// IMDSConnect is the command that QEMU runs to reach an instance's metadata
	// service: it calls [IMDSConnect] with its last argument, which is added here.
	// Without it guests have no metadata.
	IMDSConnect []string
	// KVM runs guests on /dev/kvm. Off by default: there are machines where it is there and hangs.
	KVM bool
	// Outbound lets guests reach this host and what it reaches, as far as their
	// security groups let them. Off by default, so that a test launch of a
	// production server meets nobody.
	Outbound bool
	// StopGrace is how long an instance may take to power down when asked.
	StopGrace time.Duration
	// Faults are troubles that clients meet on purpose. None by default.
	Faults Faults
	// StateDelay is how long things stay in states such as pending, creating and
	// stopping, as they do in EC2. 0, the default, is not at all.
	StateDelay time.Duration
	// Quotas are the account's limits; what would exceed one is refused with EC2's code.
	Quotas Quotas
	// Denied are actions that the credentials may not call, such as ec2:CreateVolume
	// or ebs:*. They get UnauthorizedOperation.
	Denied []string
	// KMSKeys are the KMS keys on offer, by id or alias, beside alias/aws/ebs. One
	// in another state than Enabled has it after it, such as alias/old=Disabled.
	// Without any, every well-formed name is one.
	KMSKeys []string
	// Profiles are the names of the instance profiles on offer. Without any,
	// every well-formed name is one.
	Profiles []string
}

// Refusal is the answer to a call that is not done.
type Refusal = fault.Refusal

// Faults is a plan of troubles, for tests of clients.
type Faults = fault.Plan

// Quotas are limits of a local cloud: VCPUs of the instances that are pending or
// running, numbers of Volumes and Snapshots, and StorageGiB of all volumes
// together. 0 is no limit.
type Quotas = cloud.Quotas

// Image is an image of the configuration: a raw bootable disk (Path), or a
// program that instances run as a host process (Program, its command line).
type Image struct {
	Name, Description string
	Path              string
	Program           []string
}

// Default returns a complete configuration except for Dir.
func Default() Config {
	return Config{Listen: "127.0.0.1:4590", Region: "local-1", PoolSizeBytes: 128 << 30, StopGrace: 20 * time.Second}
}

// Info is what a client needs to use the local cloud.
type Info struct {
	// Endpoint is the URL for EC2 and STS.
	Endpoint string
	Region   string
	// CredentialsFile is in AWS's shared format, profile default.
	CredentialsFile string
}

// Deps are what Run uses from its surroundings.
type Deps struct {
	Log hclog.Logger
	// Ready, if not nil, is called once when the endpoint answers.
	Ready func(Info)
	// Fault, if not nil, is told of each trouble that a client met: throttle, fail, fail-done or lose.
	Fault func(action, kind string)
}

// CredentialsFile is where the local cloud with the data folder dir keeps its
// credentials. The file is made at the first start and readable by its owner only.
func CredentialsFile(dir string) string { return filepath.Join(dir, "credentials") }

// account is the account number of every local cloud.
const account = "000000000000"

// Run serves until ctx is done. Then it stops the instances, first by asking,
// and returns when no process, mount or loop device of it is left. Process
// instances that ran are started again by the next Run, guests are stopped.
func Run(ctx context.Context, cfg Config, deps Deps) (err error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return hint.Wrap(fmt.Errorf("find QEMU: %w", err), "apt-get install qemu-system-x86 seabios ovmf, or run scripts/install-packages")
	}
	p, err := openPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	c, err := open(ctx, cfg, p, qemu, deps.Log)
	if err != nil {
		return err
	}
	credentials, err := ensureCredentials(CredentialsFile(cfg.Dir))
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return hint.Wrap(fmt.Errorf("listen on %s: %w", cfg.Listen, err), "stop what uses the port (ss -ltnp), or give the local cloud another listen address")
	}
	info := Info{Endpoint: "http://" + listener.Addr().String(), Region: cfg.Region, CredentialsFile: CredentialsFile(cfg.Dir)}
	srv := &http.Server{
		Handler: &api.Server{
			Cloud: c, Credentials: credentials, Endpoint: info.Endpoint, Denied: cfg.Denied, Profiles: cfg.Profiles, Log: deps.Log.Named("api"), Faults: fault.NewInjector(cfg.Faults, deps.Fault),
		},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          deps.Log.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true}),
	}
	deps.Log.Info("local cloud serves", "endpoint", info.Endpoint, "region", cfg.Region, "dir", cfg.Dir, "kvm", cfg.KVM, "outbound", cfg.Outbound)
	return serve(ctx, c, srv, listener, func() {
		if deps.Ready != nil {
			deps.Ready(info)
		}
	})
}

// openPool makes the data folder and opens the pool in it.
func openPool(ctx context.Context, cfg Config) (*pool.Pool, error) {
	if cfg.Dir == "" || cfg.Region == "" {
		return nil, hint.New("open data folder: no folder or no region given", "start from localcloud.Default and set Dir")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	return pool.Open(ctx, pool.Options{Dir: cfg.Dir, SizeBytes: cfg.PoolSizeBytes})
}

// open brings up everything between the pool and the endpoint.
func open(ctx context.Context, cfg Config, p *pool.Pool, qemu string, log hclog.Logger) (*cloud.Cloud, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	store, err := state.Open(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	c := cloud.New(cloud.Settings{
		Dir: dir, Region: cfg.Region, Account: account, Store: store, Pool: p, Outbound: cfg.Outbound, StopGrace: cfg.StopGrace, Log: log,
		StateDelay: cfg.StateDelay, Quotas: cfg.Quotas, KMSKeys: cfg.KMSKeys,
		Host: &instance.Host{QEMU: qemu, KVM: cfg.KVM, Connect: cfg.IMDSConnect, Log: log.Named("instance")},
	})
	if err := c.Prepare(); err != nil {
		return nil, err
	}
	return c, ensureImages(ctx, c, cfg.Images)
}

func ensureImages(ctx context.Context, c *cloud.Cloud, images []Image) error {
	names := make([]string, 0, len(images))
	for _, im := range images {
		names = append(names, im.Name)
		err := c.EnsureImage(ctx, cloud.OwnImage{
			Name: im.Name, Description: im.Description, Path: im.Path, Program: im.Program, Architecture: "x86_64", BootMode: "legacy-bios",
		})
		if err != nil {
			return err
		}
	}
	return c.RetireImages(names)
}

// serve runs the instances and the endpoint. Shutdown order: no more calls,
// then the instances, then (by Run) the pool.
func serve(ctx context.Context, c *cloud.Cloud, srv *http.Server, l net.Listener, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.Run(ctx) })
	failed := make(chan error, 1)
	wg.Go(func() { failed <- srv.Serve(l) })
	ready()
	select {
	case err := <-failed:
		cancel()
		return fmt.Errorf("serve endpoint: %w", err)
	case <-ctx.Done():
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	if err := srv.Shutdown(grace); err != nil {
		return errors.Join(srv.Close())
	}
	return nil
}

// IMDSConnect joins in and out to the metadata service at address until both
// ends are done. A hidden subcommand calls it; Config.IMDSConnect names it.
func IMDSConnect(address string, in io.Reader, out io.Writer) error {
	return imds.Connect(address, in, out)
}

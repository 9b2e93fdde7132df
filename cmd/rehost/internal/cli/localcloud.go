package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"rehost/internal/config"
	"rehost/internal/hint"
	"rehost/localcloud"
)

// Names under which the controller looks for images in any cloud.
const (
	imageReplicaServer = "rehost-replicaserver"
	programName        = "rehost-replicaserver"
)

// cloudOptions are the flags of a local cloud.
type cloudOptions struct {
	listen   string
	pool     string
	images   []string
	program  string
	kvm      bool
	outbound bool
	faults   []string
	delay    time.Duration
	quotas   map[string]int64
	denied   []string
	keys     []string
	profiles []string
}

func (o *cloudOptions) flags(cmd *cobra.Command, listenFlag string) {
	f := cmd.Flags()
	f.StringVar(&o.listen, listenFlag, "127.0.0.1:4566", "`address` of the EC2 endpoint")
	f.StringVar(&o.pool, "pool-size", "128GiB", "`size` of the sparse pool image, where the data folder has no reflinks")
	f.StringArrayVar(&o.images, "image", nil, "disk image to offer, as `NAME=PATH`; may be given several times")
	f.StringVar(&o.program, "replicaserver", "", "`program` of the image "+imageReplicaServer+" (default: beside this program)")
	f.BoolVar(&o.kvm, "kvm", false, "run guests on /dev/kvm")
	f.StringArrayVar(&o.faults, "fault", nil, "trouble for clients, as `NAME=VALUE`: throttle=0.3, fail=0.1, lose=CreateSnapshot, refuse=RunInstances:InsufficientInstanceCapacity, delay=1s, seed=7; may be given several times")
	f.BoolVar(&o.outbound, "outbound", false, "let guests reach this host and what it reaches")
	f.DurationVar(&o.delay, "state-delay", 0, "how `long` things stay pending, creating or stopping, as in EC2")
	f.StringToInt64Var(&o.quotas, "quota", nil, "account limits, such as `vcpus=8,volumes=20,snapshots=50,storage=100`; storage is in GiB")
	f.StringArrayVar(&o.denied, "deny", nil, "`action` that is refused, such as ec2:DeleteVolume or ebs:*; may be given several times")
	f.StringArrayVar(&o.keys, "kms-key", nil, "id or alias of a KMS `key` on offer, one that cannot be used as alias/old=Disabled; without any every well-formed name is one")
	f.StringArrayVar(&o.profiles, "instance-profile", nil, "`name` of an instance profile on offer; without any every well-formed name is one")
}

// config checks the flags and makes the local cloud's configuration of them.
func (o *cloudOptions) config(dir string) (localcloud.Config, error) {
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.KVM, cfg.Outbound = dir, o.listen, o.kvm, o.outbound
	size, err := config.ParseSize(o.pool)
	if err != nil {
		return cfg, usage(hint.Wrap(fmt.Errorf("--pool-size: %w", err), "write a number and a unit, such as --pool-size 128GiB"))
	}
	cfg.PoolSizeBytes = size
	for _, text := range o.faults {
		if err := cfg.Faults.Set(text); err != nil {
			return cfg, usage(hint.Wrap(fmt.Errorf("--fault %s: %w", text, err), "write for example --fault throttle=0.3 --fault lose=CreateSnapshot"))
		}
	}
	cfg.StateDelay, cfg.Denied, cfg.KMSKeys, cfg.Profiles = o.delay, o.denied, o.keys, o.profiles
	if cfg.Quotas, err = quotas(o.quotas); err != nil {
		return cfg, err
	}
	self, err := os.Executable()
	if err != nil {
		return cfg, fmt.Errorf("find this program: %w", err)
	}
	cfg.IMDSConnect = []string{self, "localcloud", "imds-connect"}
	if o.program == "" {
		o.program = filepath.Join(filepath.Dir(self), programName)
	}
	program, err := file("--replicaserver", o.program)
	if err != nil {
		return cfg, err
	}
	// Each instance runs in a folder of its own, which ends with it.
	cfg.Images = []localcloud.Image{{Name: imageReplicaServer, Description: "rehost replication server", Program: []string{program, "run", "--work-dir", "."}}}
	for _, text := range o.images {
		name, path, ok := strings.Cut(text, "=")
		if !ok || name == "" || path == "" {
			return cfg, usage(hint.New(fmt.Sprintf("--image %q is not NAME=PATH", text), "write for example --image rehost-convert=build/appliance.img"))
		}
		if slices.ContainsFunc(cfg.Images, func(i localcloud.Image) bool { return i.Name == name }) {
			return cfg, usage(hint.New(fmt.Sprintf("there are two images %q", name), "give each --image a name of its own"))
		}
		if path, err = file("--image "+name, path); err != nil {
			return cfg, err
		}
		cfg.Images = append(cfg.Images, localcloud.Image{Name: name, Path: path})
	}
	return cfg, nil
}

// quotas turns the limits of --quota into the local cloud's.
func quotas(limits map[string]int64) (localcloud.Quotas, error) {
	var q localcloud.Quotas
	for name, n := range limits {
		if n < 0 {
			return q, usage(hint.New(fmt.Sprintf("--quota %s=%d is negative", name, n), "give a number, or leave it out for no limit"))
		}
		switch name {
		case "vcpus":
			q.VCPUs = int(n)
		case "volumes":
			q.Volumes = int(n)
		case "snapshots":
			q.Snapshots = int(n)
		case "storage":
			q.StorageGiB = n
		default:
			return q, usage(hint.New(fmt.Sprintf("--quota: there is no limit %q", name), "use vcpus, volumes, snapshots or storage"))
		}
	}
	return q, nil
}

// file returns the absolute path of a file that must exist.
func file(flag, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	info, err := os.Stat(abs)
	if err != nil || info.IsDir() {
		return "", hint.New(fmt.Sprintf("%s: no file %s", flag, abs), "build it first (make build), or name another file")
	}
	return abs, nil
}

func newLocalCloud(env Env) *cobra.Command {
	var o cloudOptions
	var data string
	cmd := &cobra.Command{
		Use: "localcloud", Short: "Run an EC2 endpoint with real volumes and instances on this machine",
		Example: "  rehost localcloud --data /var/lib/localcloud --image debian=debian.img",
	}
	group(cmd)
	cmd.Flags().StringVar(&data, "data", filepath.Join(".rehost", "cloud"), "data `folder`")
	o.flags(cmd, "listen")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := o.config(data)
		if err != nil {
			return err
		}
		if err := preflight(cmd.Context(), map[string]string{"--listen": o.listen}); err != nil {
			return err
		}
		log := hclog.New(&hclog.LoggerOptions{Name: "localcloud", Output: env.Stderr, Level: hclog.Info})
		return localcloud.Run(cmd.Context(), cfg, localcloud.Deps{Log: log, Ready: func(info localcloud.Info) {
			var p printer
			p.line("EC2 endpoint %s, region %s", info.Endpoint, info.Region)
			p.line("credentials  %s", info.CredentialsFile)
			p.line("try: AWS_SHARED_CREDENTIALS_FILE=%s aws --endpoint-url %s --region %s ec2 describe-images", info.CredentialsFile, info.Endpoint, info.Region)
			_ = p.flush(env.Stdout) // the endpoint serves, whoever listens here
		}})
	}
	cmd.AddCommand(newIMDSConnect(env))
	return cmd
}

// newIMDSConnect is what QEMU runs for each connection of a guest to its metadata service.
func newIMDSConnect(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "imds-connect ADDRESS", Hidden: true, Args: one("ADDRESS"),
		RunE: func(_ *cobra.Command, args []string) error {
			return localcloud.IMDSConnect(args[0], env.Stdin, env.Stdout)
		},
	}
}

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/appliance"
	"rehost/convert/offline"
	"rehost/internal/hint"
	"rehost/internal/passphrase"
	"rehost/protocol"
)

// convertOptions are the flags of a conversion of image files.
type convertOptions struct {
	disks      []string
	network    string
	passphrase string
	appliance  string
	kvm        bool
	output     string

	identity      string
	scripts       []string
	scriptTimeout time.Duration
}

func newConvert(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "convert", Short: "Make a disk image boot in EC2, without a fleet",
		Long: "Convert a raw disk image by itself: plan says what would change, apply changes it, undo gives every file its bytes back.\n" +
			"The work is done in the appliance, in a virtual machine (QEMU), so this machine's kernel never mounts what is on the image, and no root\n" +
			"is needed. A conversion that was cut off is simply run again.\n\n" +
			"With --script, programs of yours run in the conversion: before-mount on the disks, after-conversion in the guest's root with the guest's\n" +
			"programs, without a network. They may run again, and there is no undo after them. Those of first-boot run once in the instance.",
		Example: "  rehost convert plan  --disk web-1.raw\n" +
			"  rehost convert apply --disk web-1.raw --disk web-1-data.raw\n" +
			"  rehost convert apply --disk vault.raw --passphrase-file key.txt -o json\n" +
			"  rehost convert apply --disk test-1.raw --identity new --script after-conversion=fix-app.sh\n" +
			"  rehost convert undo  --disk web-1.raw",
	}
	group(cmd)
	cmd.AddCommand(
		newConvertAction(env, protocol.ActionPlan, "Say what would change; the image stays as it is"),
		newConvertAction(env, protocol.ActionApply, "Change it; work on a copy if you cannot get the image again"),
		newConvertAction(env, protocol.ActionUndo, "Give every file that a conversion changed its bytes, owner and mode back"),
	)
	return cmd
}

func newConvertAction(env Env, action protocol.ConversionAction, short string) *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use: string(action), Short: short, Args: cobra.NoArgs,
		Example: fmt.Sprintf("  rehost convert %s --disk web-1.raw\n  rehost convert %s --disk boot.raw --disk data.raw -o json", action, action),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.disks, "disk", nil, "raw image `file` or block device; given again for each further disk, the boot disk first")
	f.StringVar(&o.network, "network", "dhcp", "`how` the guest gets its addresses: dhcp, or keep for what is configured")
	f.StringVar(&o.passphrase, "passphrase-file", "", "`file` with the passphrase of LUKS devices; - is standard input")
	f.StringVar(&o.appliance, "appliance", "", "`file` with the appliance's disk image (default: built once from Debian packages and cached)")
	f.BoolVar(&o.kvm, "kvm", false, "try /dev/kvm; it is given up when a machine does not start on it")
	if action != protocol.ActionUndo {
		f.StringVar(&o.identity, "identity", string(protocol.IdentityKeep), "`whether` the guest keeps its machine id and SSH host keys: keep, or new")
		f.StringArrayVar(&o.scripts, "script", nil, "run a script: `PHASE=FILE`, with before-mount, after-conversion or first-boot; given again for each further one")
		f.DurationVar(&o.scriptTimeout, "script-timeout", protocol.DefaultScriptTimeout, "`how long` each script may take")
	}
	outputFlag(cmd, &o.output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		job, err := o.job(env, action)
		if err != nil {
			return err
		}
		return convertImages(cmd.Context(), env, o, job)
	}
	return cmd
}

// job checks the flags.
func (o *convertOptions) job(env Env, action protocol.ConversionAction) (offline.Job, error) {
	job := offline.Job{Action: action, KVM: o.kvm, Settings: protocol.ConversionSettings{Network: o.network}}
	if len(o.disks) == 0 {
		return job, usage(hint.New("no disk given", "name the image: --disk FILE"))
	}
	if o.network != "dhcp" && o.network != "keep" {
		return job, usage(hint.New(fmt.Sprintf("unknown network %q", o.network), "use --network dhcp or --network keep"))
	}
	if action != protocol.ActionUndo {
		if job.Settings.Identity = protocol.Identity(o.identity); job.Settings.Identity != protocol.IdentityKeep && job.Settings.Identity != protocol.IdentityNew {
			return job, usage(hint.New(fmt.Sprintf("unknown identity %q", o.identity), "use --identity keep or --identity new"))
		}
		scripts, err := readScripts(o.scripts, o.scriptTimeout)
		if err != nil {
			return job, err
		}
		job.Settings.Scripts = scripts
	}
	seen := map[string]bool{}
	for _, d := range o.disks {
		path, err := imageFile(d)
		if err != nil {
			return job, err
		}
		if seen[path] {
			return job, usage(hint.New(fmt.Sprintf("--disk %s is there twice", d), "name each disk once"))
		}
		seen[path] = true
		job.Disks = append(job.Disks, path)
	}
	secret, err := readPassphrase(env.Stdin, o.passphrase)
	job.Settings.Passphrase = secret
	return job, err
}

// formats are the starts of images that are not raw.
var formats = map[string]string{"QFI": "qcow2", "KDMV": "vmdk", "conectix": "vhd", "vhdxfile": "vhdx", "<<< ": "vdi"}

// imageFile returns the absolute path of a raw image.
func imageFile(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("--disk: %w", err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", hint.New("--disk: no file "+path, "name a raw image file or a block device")
	}
	f, err := os.Open(abs)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("--disk: %w", err), "make it readable and writable for you")
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return "", hint.New("--disk: "+path+" is a folder", "name a raw image file or a block device")
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil {
		return "", hint.New(fmt.Sprintf("--disk: %s is no disk: it has %d bytes", path, n), "name a raw image file or a block device")
	}
	for start, name := range formats {
		if strings.HasPrefix(string(head), start) {
			return "", hint.New(fmt.Sprintf("--disk: %s is a %s image, not a raw one", path, name), "convert it first: qemu-img convert -O raw "+path+" disk.raw")
		}
	}
	return abs, nil
}

// readPassphrase reads what --passphrase-file names.
func readPassphrase(stdin io.Reader, path string) (protocol.Secret, error) {
	switch path {
	case "":
		return "", nil
	case "-":
		return passphrase.Read(stdin, "standard input")
	}
	return passphrase.ReadFile(path)
}

func convertImages(ctx context.Context, env Env, o convertOptions, job offline.Job) error {
	start := time.Now()
	job.Progress = func(text string) { _, _ = fmt.Fprintln(env.Stderr, oneLine(text)) }
	var err error
	if job.Appliance, err = findAppliance(ctx, o.appliance, job.Progress); err != nil {
		return err
	}
	r, err := offline.Run(ctx, job)
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = writeJSON(env.Stdout, r)
	} else {
		err = tellConversion(env, job.Action, r, time.Since(start))
	}
	if err != nil {
		return err
	}
	if r.Problem != nil {
		return hint.Wrap(r.Problem, r.Problem.Hint)
	}
	return nil
}

// findAppliance returns the image to run: the one that was named, the one that is installed, or one that is built.
func findAppliance(ctx context.Context, named string, progress func(string)) (string, error) {
	if named != "" {
		return file("--appliance", named)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path, err := appliance.Build(ctx, appliance.Options{Convert: filepath.Join(filepath.Dir(self), "rehost-convert"), Progress: progress})
	if err != nil {
		return "", hint.Wrap(err, "build it on a Debian 12 machine (make appliance), copy it here, and name it with --appliance")
	}
	return path, nil
}

// tellConversion prints a report for people.
func tellConversion(env Env, action protocol.ConversionAction, r protocol.ConversionReport, took time.Duration) error {
	var p printer
	if g := r.Guest; g.OS != "" {
		p.line("%s, kernel %s, boots by %s, network by %s", oneLine(g.OS), oneLine(g.Kernel), orDash(g.BootMode), orDash(g.Network))
	}
	for _, f := range r.Findings {
		p.line("%s %s: %s", f.Severity, f.Code, oneLine(f.Message))
		p.line("    hint: %s", oneLine(f.Hint))
	}
	tellScripts(&p, "", r.Scripts)
	for _, c := range r.Changes {
		p.line("%-6s %s", c.Action, oneLine(c.Path))
		p.line("       %s", oneLine(c.Reason))
	}
	done := map[protocol.ConversionAction]string{protocol.ActionPlan: "changes would be made", protocol.ActionApply: "changes were made"}[action]
	switch {
	case r.Problem != nil:
	case action == protocol.ActionUndo:
		p.line("every file has its bytes back, after %.1f s", took.Seconds())
	default:
		p.line("%d %s, after %.1f s", len(r.Changes), done, took.Seconds())
	}
	return p.flush(env.Stdout)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
	"rehost/protocol"
	"rehost/test/migration"
)

// Where the demo works, in the checkout.
const (
	workDir    = "build/demo/work"
	reportFile = "build/demo/report.json"
	// screenshotFile is what the newest target showed on its screen after its checks.
	screenshotFile = "build/demo/target.png"
	lockFile       = "build/demo/lock"
)

// demo is one run.
type demo struct {
	*migration.Migration
	out    io.Writer
	began  time.Time
	report *report
	last   int64 // the last record that the source wrote
}

// step is one line of the timeline.
type step struct {
	name string
	run  func(ctx context.Context, d *demo) (result string, err error)
}

// steps is the whole of the main job.
var steps = []step{
	{"prepare images", prepareImages},
	{"start controller and cloud", startCloud},
	{"attach source, start its application", startSource},
	{"apply configuration", apply},
	{"start agent", startAgent},
	{"replicate", replicate},
	{"test launch", testLaunch},
	{"compare point with snapshot", compare},
	{"inspect test target", inspectTest},
	{"cutover", cutOver},
	{"inspect cutover target", inspectCutover},
	{"finalize", finalize},
}

// preflight says in one line what is missing, before anything is started.
func preflight() error {
	if os.Geteuid() != 0 {
		return hint.New("the demo needs root: it traces the kernel, attaches disks and freezes filesystems of its own", "run it as root: sudo make demo")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return hint.New("this kernel has no BTF", "use a kernel with CONFIG_DEBUG_INFO_BTF, such as Debian 12's own")
	}
	for _, program := range []string{"qemu-system-x86_64", "mkfs.xfs", "mmdebstrap"} {
		if _, err := exec.LookPath(program); err != nil {
			return hint.New(program+" is not installed", "run scripts/install-packages, or make demo, which does")
		}
	}
	return nil
}

func run(ctx context.Context, out io.Writer) (err error) {
	if err := preflight(); err != nil {
		return err
	}
	unlock, err := lock(lockFile)
	if err != nil {
		return err
	}
	defer unlock()
	d := &demo{out: out, began: time.Now(), report: newReport()}
	d.Migration, err = migration.New(ctx, migration.Config{
		Repo: ".", Bin: "bin", Dir: workDir, Out: commandOutput(out), Notice: d.notice,
	})
	if err != nil {
		return err
	}
	err = d.all(ctx)
	d.say("taking everything down")
	err = explain(ctx, err, d.takeDown(context.WithoutCancel(ctx)))
	if err == nil {
		d.report.Result = "PASS"
	}
	if errReport := d.report.write(reportFile); errReport != nil {
		return errors.Join(err, errReport)
	}
	if err != nil {
		printf(out, "\nFAIL after %s; logs are in %s, the report is %s\n", time.Since(d.began).Round(time.Second), workDir, reportFile)
		return err
	}
	d.report.summary(out, time.Since(d.began))
	return nil
}

// takeDown ends everything and looks whether it is gone.
func (d *demo) takeDown(ctx context.Context) error {
	err := d.Close()
	left, errLeft := migration.HostLeftovers(ctx, abs(workDir))
	d.report.Leftovers = append(d.report.Leftovers, left...)
	if len(left) > 0 {
		errLeft = errors.Join(errLeft, fmt.Errorf("left behind: %s", strings.Join(left, ", ")))
	}
	return errors.Join(err, errLeft)
}

// explain makes one error of how the steps ended and how the taking down did, with what to do next.
func explain(ctx context.Context, steps, down error) error {
	switch {
	case down != nil:
		return hint.Wrap(errors.Join(steps, down), "run it again: it first takes away what this run left; the logs are in "+workDir)
	case steps != nil && ctx.Err() != nil:
		return hint.New("interrupted; everything was taken away again", "run it again with make demo")
	case steps != nil && hint.Of(steps) == "":
		return hint.Wrap(steps, "read the logs in "+workDir)
	}
	return steps
}

// lock keeps a second demo of this checkout from taking away what the first one works with. It ends with the process.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, hint.New("another demo runs in this checkout", "wait for its end, or end it with Ctrl-C")
	}
	return func() { _ = f.Close() }, nil
}

func abs(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return full
}

// all runs the steps, each with its line when it begins and when it has ended.
func (d *demo) all(ctx context.Context) error {
	for i, s := range steps {
		began := time.Now()
		d.say("%d/%d %s", i+1, len(steps), s.name)
		result, err := s.run(ctx, d)
		if err != nil {
			d.report.step(s.name, began, "failed: "+err.Error())
			return fmt.Errorf("%s: %w", s.name, err)
		}
		d.report.step(s.name, began, result)
		printf(d.out, "         %s (%.1f s)\n", result, time.Since(began).Seconds())
	}
	return nil
}

func (d *demo) say(format string, args ...any) {
	printf(d.out, "[%6.1f] %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) notice(text string) { printf(d.out, "         %s\n", text) }

// printf writes to the terminal; when that is gone, the report still says everything.
func printf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func prepareImages(ctx context.Context, d *demo) (string, error) {
	if err := d.BuildWriter(ctx); err != nil {
		return "", err
	}
	return "source disk and conversion appliance are ready", d.Images(ctx)
}

func startCloud(ctx context.Context, d *demo) (string, error) {
	return "rehost dev answers", d.StartCloud(ctx)
}

func startSource(ctx context.Context, d *demo) (string, error) {
	if err := d.StartSource(ctx); err != nil {
		return "", err
	}
	return "mounted and written to, on " + d.Disk(), nil
}

func apply(ctx context.Context, d *demo) (string, error) {
	return "applied configs/demo", d.Apply(ctx)
}

func startAgent(ctx context.Context, d *demo) (string, error) {
	return "enrolled, tracking", d.StartAgent(ctx)
}

func replicate(ctx context.Context, d *demo) (string, error) {
	if err := d.Command(ctx, "server", "wait", migration.Server, "--state", string(protocol.ReadyForTest)); err != nil {
		return "", err
	}
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	d.report.transfer(s)
	if err := d.Command(ctx, "status"); err != nil {
		return "", err
	}
	if err := d.Command(ctx, "server", "preflight", migration.Server, "--fresh"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, lag %d ms", s.Replication, d.report.LagMS), nil
}

func testLaunch(ctx context.Context, d *demo) (string, error) {
	if err := d.Command(ctx, "wave", "test", migration.Wave, "--yes"); err != nil {
		return "", err
	}
	return d.launched(ctx, func(r protocol.Server) *protocol.Launched { return r.Test })
}

// launched puts what a job did into the report.
func (d *demo) launched(ctx context.Context, which func(protocol.Server) *protocol.Launched) (string, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	l := which(s.Record)
	if l == nil {
		return "", errors.New("the record has no launched instance")
	}
	point, err := d.Point(ctx, l.Point)
	if err != nil {
		return "", err
	}
	job, err := d.Job(ctx)
	if err != nil {
		return "", err
	}
	d.report.job(job, point)
	if err := d.Command(ctx, "job", "screenshot", job.ID, migration.Server, "--out", screenshotFile); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s answers at %s, from point %s (%s, frozen %d ms)", l.Instance, l.Address, l.Point, point.Grade, point.Frozen.Milliseconds()), nil
}

func compare(ctx context.Context, d *demo) (string, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	point, err := d.Point(ctx, s.Record.Test.Point)
	if err != nil {
		return "", err
	}
	if d.report.Hash, err = d.Hash(ctx, point); err != nil {
		return "", err
	}
	if !d.report.Hash.Equal() {
		return "", fmt.Errorf("the source at point %s is %s, the snapshot %s", point.ID, d.report.Hash.Source, d.report.Hash.Snapshot)
	}
	return "equal: sha256 " + d.report.Hash.Source, nil
}

func inspectTest(ctx context.Context, d *demo) (string, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	want, err := d.RecordsAt(ctx, s.Record.Test.Point)
	if err != nil {
		return "", err
	}
	return d.inspect(ctx, s.Record.Test, want)
}

// inspect looks at a target and wants exactly the records that the source had.
func (d *demo) inspect(ctx context.Context, l *protocol.Launched, want int64) (string, error) {
	target, err := d.Inspect(ctx, l)
	target.RecordsExpected = want
	d.report.Target = target
	if err != nil {
		return "", err
	}
	if !target.Complete() {
		return "", fmt.Errorf("the target is not what the source was: %+v", target)
	}
	return fmt.Sprintf("root on %s, data on %s, HTTP %d, %d of %d records", target.RootDevice, target.DataDevice, target.HTTPStatus, target.RecordsFound, want), nil
}

func cutOver(ctx context.Context, d *demo) (string, error) {
	if err := d.Command(ctx, "wave", "cutover", migration.Wave, "--yes"); err != nil {
		return "", err
	}
	evidence, err := d.Evidence(ctx)
	if err != nil {
		return "", err
	}
	if err := d.report.downtime(evidence); err != nil {
		return "", err
	}
	if d.last, err = d.WriterEnded(ctx); err != nil {
		return "", err
	}
	return d.launched(ctx, func(r protocol.Server) *protocol.Launched { return r.Cutover })
}

func inspectCutover(ctx context.Context, d *demo) (string, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	return d.inspect(ctx, s.Record.Cutover, d.last)
}

func finalize(ctx context.Context, d *demo) (string, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	if err := d.Command(ctx, "wave", "finalize", migration.Wave, "--yes"); err != nil {
		return "", err
	}
	left, err := d.CloudLeftovers(ctx, s.Record.Cutover)
	if err != nil {
		return "", err
	}
	d.report.Leftovers = left
	if len(left) > 0 {
		return "", fmt.Errorf("left in the cloud: %v", left)
	}
	return "nothing is left but the target", nil
}

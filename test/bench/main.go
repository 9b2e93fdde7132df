// The benchmarks run our programs against what people use instead, both in the same minutes and on the same disk, and
// write build/bench/NAME.json for each. A missed target is shown as missed; only a measurement that broke is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/internal/lock"
	"rehost/internal/program"
)

// insideVariable marks the process that runs in namespaces of its own.
const insideVariable = "REHOST_BENCH_INSIDE"

func main() {
	for role, run := range map[string]func(context.Context, []string) error{brokerRole: runBroker, agentsRole: runAgents} {
		if len(os.Args) > 1 && os.Args[1] == role {
			os.Exit(program.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, os.Args[2:]) }))
		}
	}
	if os.Getenv(insideVariable) == "" {
		code := program.Run(os.Stderr, func(ctx context.Context) error { return fetchGuest(ctx, os.Args[1:]) })
		if code == 0 {
			code = enter()
		}
		os.Exit(code)
	}
	os.Exit(program.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, os.Args[1:]) }))
}

// enter runs this program again in network and mount namespaces of its own. They end with its last process, whatever
// happened to it, and with them every mount, link and address.
func enter() int {
	runtime.LockOSThread() // the child's Pdeathsig follows the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM, Setpgid: true}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		program.Report(os.Stderr, hint.Wrap(fmt.Errorf("make namespaces for the benchmarks: %w", err), "run it as root"))
		return 1
	}
	go func() { // ends with the process
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, exit.ExitCode())
	}
	if err != nil {
		program.Report(os.Stderr, err)
		return 1
	}
	return 0
}

// benchmark is one measurement, or a group that shares its runs.
type benchmark struct {
	name  string
	what  string
	limit time.Duration // of one round
	run   func(ctx context.Context, e *env, name string) ([]result, error)
}

// one makes a benchmark of a measurement that has one result.
func one(measure func(ctx context.Context, e *env, name string) (result, error)) func(context.Context, *env, string) ([]result, error) {
	return func(ctx context.Context, e *env, name string) ([]result, error) {
		r, err := measure(ctx, e, name)
		return []result{r}, err
	}
}

// seen are the fleets of this run.
var seen fleets

// benchmarks in the order in which they run.
var benchmarks = []benchmark{
	{"full-sync-nbdcopy", "full sync against nbdcopy over TLS", 5 * time.Minute, one(fullSync(nbdcopy, false, 1))},
	{"full-sync-dd", "full sync against dd | lz4 | TLS | lz4 -d | dd", 5 * time.Minute, one(fullSync(ddPipe, false, 2.5))},
	{"full-sync-nbdcopy-1g", "the same over a link of 1 Gbit/s", 5 * time.Minute, one(fullSync(nbdcopy, true, 1))},
	{"full-sync-dd-1g", "the same over a link of 1 Gbit/s", 5 * time.Minute, one(fullSync(ddPipe, true, 2.5))},
	{"tracker-btf", "fio random writes with and without the btf tracker", 2 * time.Minute, one(trackerCost("btf"))},
	{"tracker-classic", "fio random writes with and without the classic tracker", 2 * time.Minute, one(trackerCost("classic"))},
	{"lag-20", "lag at 20 MB/s of random writes, 95th percentile", 5 * time.Minute, one(lag(20, 0, time.Second))},
	{"lag-50", "lag at 50 MB/s of random writes, 95th percentile", 5 * time.Minute, one(lag(50, 0, 3*time.Second))},
	{"lag-20-direct", "the same, of writes that do not wait in the page cache", 5 * time.Minute, one(lag(20, 1, time.Second))},
	{"lag-50-direct", "the same, of writes that do not wait in the page cache", 5 * time.Minute, one(lag(50, 1, 3*time.Second))},
	{"freeze-20", "freeze of 20 points at 20 MB/s, 99th percentile", 5 * time.Minute, one(freeze(20))},
	{"freeze-50", "freeze of 20 points at 50 MB/s, 99th percentile", 5 * time.Minute, one(freeze(50))},
	{"agent-memory", "peak memory of the agent on a sparse disk of 1 TiB", 10 * time.Minute, one(agentMemory)},
	{"linear", "seconds per GB of a 16 GiB disk against one of 1 GiB", 20 * time.Minute, one(linear)},
	{"convert", "rehost convert apply of a disk of 4 GiB, the machine's start included", 5 * time.Minute, one(conversion(true, 15))},
	{"convert-itself", "the same without the machine's start", 5 * time.Minute, one(conversion(false, 2))},
	{"fleet-100", "status, memory and CPU of a controller with 100 servers", 20 * time.Minute, seen.of(100)},
	{"fleet-300", "the same with 300, and how it grows", 20 * time.Minute, seen.of(300)},
	{"fleet-1000", "the same with 1,000", 30 * time.Minute, seen.of(1000)},
	{"convert-v2v", "the same against virt-v2v-in-place, both on an emulated processor", 15 * time.Minute, one(againstV2V)},
	{"plan-new", "rehost plan of 10,000 servers, all of them new", 5 * time.Minute, one(planning(false))},
	{"plan-change", "the same when they are applied and one setting changes", 5 * time.Minute, one(planning(true))},
	{"codec", "lz4 against other codecs, one core, frames of 1 MiB", 10 * time.Minute, one(codecs)},
}

// env is what every benchmark works with.
type env struct {
	rounds int
	bin    string // folder of our programs
	dir    string // results and cached disks
	// example is the folder of the configuration of a thousand servers.
	example string
	work    string // is made anew for each benchmark
	cleanup
}

func run(ctx context.Context, args []string) (err error) {
	e := &env{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&e.rounds, "rounds", 5, "measurements of each side")
	flags.StringVar(&e.bin, "bin", "bin", "`folder` of rehost-agent and rehost-replicaserver")
	flags.StringVar(&e.dir, "dir", "build/bench", "`folder` of results, cached disks and working files")
	flags.StringVar(&e.example, "example", "configs/thousand", "`folder` of the fleet that is cut to size")
	flags.Usage = func() { printUsage(flags) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return program.Usage(err)
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.clean()) }()
	if err := e.prepare(ctx); err != nil {
		return err
	}
	var results []result
	var broken []error
	for _, b := range chosen {
		if ctx.Err() != nil {
			break
		}
		r, err := e.measure(ctx, b)
		if err != nil {
			broken = append(broken, fmt.Errorf("benchmark %s: %w", b.name, err))
			say("%s is broken: %v", b.name, err)
			continue
		}
		results = append(results, r...)
	}
	table(os.Stdout, results)
	return errors.Join(append(broken, ctx.Err())...)
}

func printUsage(flags *flag.FlagSet) {
	w := flags.Output()
	_, _ = fmt.Fprintln(w, "usage: bench [flags] [name...]; without a name, all run:")
	for _, b := range benchmarks {
		_, _ = fmt.Fprintf(w, "  %-22s %s\n", b.name, b.what)
	}
	flags.PrintDefaults()
}

func choose(names []string) ([]benchmark, error) {
	if len(names) == 0 {
		return benchmarks, nil
	}
	var chosen []benchmark
	for _, n := range names {
		i := slices.IndexFunc(benchmarks, func(b benchmark) bool { return b.name == n })
		if i < 0 {
			return nil, program.Usage(hint.New(fmt.Sprintf("unknown benchmark %q", n), "bench -h lists them"))
		}
		chosen = append(chosen, benchmarks[i])
	}
	return chosen, nil
}

// prepare makes the namespaces usable and takes away what a killed run left.
func (e *env) prepare(ctx context.Context) error {
	for _, p := range []*string{&e.bin, &e.dir, &e.example} {
		if err := absolute(p); err != nil {
			return err
		}
	}
	e.work = e.dir + "/work"
	release, err := lock.Take(ctx, e.dir+"/lock", time.Second)
	if err != nil {
		return hint.Wrap(fmt.Errorf("be the only benchmark in %s: %w", e.dir, err), "wait for the end of the other, or choose another folder with -dir")
	}
	e.later(release)
	if err := detachLeftovers(ctx, e.dir); err != nil {
		return err
	}
	if _, err := command.Run(ctx, "mount", "--make-rprivate", "/"); err != nil {
		return err
	}
	_, err = command.Run(ctx, "ip", "link", "set", "lo", "up")
	return err
}

// measure runs one benchmark within its bound, in an empty folder, and takes away all that it made.
func (e *env) measure(ctx context.Context, b benchmark) (all []result, err error) {
	say("%s: %s", b.name, b.what)
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(e.rounds+1)*b.limit, fmt.Errorf("not done after %d times %s", e.rounds+1, b.limit))
	defer cancel()
	own := &env{rounds: e.rounds, bin: e.bin, dir: e.dir, work: e.work, example: e.example}
	defer func() { err = errors.Join(err, own.clean(), os.RemoveAll(e.work)) }()
	if err := errors.Join(os.RemoveAll(e.work), os.MkdirAll(e.work, 0o700)); err != nil {
		return nil, err
	}
	all, err = b.run(ctx, own, b.name)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = errors.Join(err, cause)
		}
		return nil, err
	}
	for _, r := range all {
		err = errors.Join(err, r.write(e.dir))
	}
	return all, err
}

var began = time.Now()

// say tells what happens now.
func say(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, "[%6.1f] %s\n", time.Since(began).Seconds(), strings.TrimSpace(fmt.Sprintf(format, args...)))
}

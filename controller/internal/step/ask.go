package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/store"
	"rehost/controller/internal/target"
	"rehost/controller/internal/wave"
	"rehost/internal/command"
	"rehost/protocol"
)

const (
	// askedAtOnce bounds the programs and pages that are asked at the same time.
	askedAtOnce = 8
	// gatePath is where the programs of gates find others. They get nothing of the controller's environment, which may hold credentials.
	gatePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// answers are what the programs, pages and quotas in the gates of waves said, by wave and gate, and the configuration that they are of. They are
// asked for before anything is locked: each may take long.
type answers struct {
	revision uint64
	of       map[string]map[string]string
}

// asked returns the answers for a wave, none when the configuration is another one meanwhile.
func (r *Runner) asked(a answers, name string) map[string]string {
	if a.revision != r.store.Fleet.Revision(store.AppliedKey) {
		return nil
	}
	return a.of[name]
}

// askQuotas says why the account has no room for what servers still need. What is not known is no room.
func (r *Runner) askQuotas(ctx context.Context, f protocol.Fleet) string {
	var why []string
	for _, found := range r.account.Quotas(ctx, f) {
		why = append(why, found.Message)
	}
	return strings.Join(why, "; ")
}

// ask asks the programs and pages of all waves in which servers are.
func (r *Runner) ask(ctx context.Context, servers []string) answers {
	revision := r.store.Fleet.Revision(store.AppliedKey)
	applied := r.store.Applied()
	out := answers{revision, map[string]map[string]string{}}
	limited, cancel := context.WithTimeout(ctx, protocol.MaxGateTimeout)
	defer cancel()
	type question struct {
		wave, gate string
		ask        func(context.Context) string
		why        string
	}
	var all []*question
	for _, w := range applied.Waves {
		plan, err := wave.Of(applied, w.Name)
		if err != nil || !slices.ContainsFunc(plan.Servers, func(s string) bool { return slices.Contains(servers, s) }) {
			continue
		}
		if w.Gates.Quota {
			all = append(all, &question{wave: w.Name, gate: wave.QuotaGate, ask: func(ctx context.Context) string { return r.askQuotas(ctx, fleet.Of(applied, plan.Servers)) }})
		}
		for _, c := range w.Gates.Commands {
			all = append(all, &question{wave: w.Name, gate: wave.CommandGate(c), ask: func(ctx context.Context) string { return r.askCommand(ctx, w.Name, plan.Servers, c) }})
		}
		for _, p := range w.Gates.Pages {
			all = append(all, &question{wave: w.Name, gate: wave.PageGate(p), ask: func(ctx context.Context) string { return askPage(ctx, p) }})
		}
	}
	var group errgroup.Group
	group.SetLimit(askedAtOnce)
	for _, q := range all {
		group.Go(func() error { q.why = q.ask(limited); return nil })
	}
	_ = group.Wait() // no question is an error
	for _, q := range all {
		if out.of[q.wave] == nil {
			out.of[q.wave] = map[string]string{}
		}
		out.of[q.wave][q.gate] = q.why
	}
	return out
}

// within bounds one question, and says how its end by that bound is told. Whoever sends a configuration may ask for more than there is.
func within(ctx context.Context, wanted time.Duration) (limited context.Context, cancel context.CancelFunc, late string) {
	limit := wanted
	if limit <= 0 || limit > protocol.MaxGateTimeout {
		limit = protocol.MaxGateTimeout
	}
	limited, cancel = context.WithTimeout(ctx, limit)
	return limited, cancel, fmt.Sprintf("it has not answered within %s", limit)
}

// program finds the file of a command, or says what is wrong with it. Only a folder that the controller's own file names has any, so
// that who may send a configuration cannot run what they like where the keys of the fleet are.
func (r *Runner) program(c protocol.CommandGateSettings) (path, wrong string) {
	name := ""
	if len(c.Argv) > 0 {
		name = c.Argv[0]
	}
	switch {
	case r.cfg.GateCommands == "":
		return "", "this controller runs no commands: gate_commands in its controller.hcl names no folder"
	case name == "" || name != filepath.Base(name) || strings.HasPrefix(name, "."):
		return "", fmt.Sprintf("%q is not the name of a file in %s", name, r.cfg.GateCommands)
	}
	path = filepath.Join(r.cfg.GateCommands, name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "there is no " + path + " on the controller's machine"
	case err != nil:
		return "", err.Error()
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", path + " on the controller's machine is no program"
	}
	return path, ""
}

func (r *Runner) askCommand(ctx context.Context, name string, servers []string, c protocol.CommandGateSettings) string {
	path, wrong := r.program(c)
	if wrong != "" {
		return wrong
	}
	ctx, cancel, late := within(ctx, c.Timeout)
	defer cancel()
	env := []string{gatePath, "REHOST_WAVE=" + name, "REHOST_SERVERS=" + strings.Join(servers, " ")}
	last, err := command.Ask(ctx, env, path, c.Argv[1:]...)
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return late
	case ended && last != "":
		return last
	case ended:
		return "it says nothing, and ends with " + exit.String()
	}
	return err.Error()
}

func askPage(ctx context.Context, p protocol.PageGateSettings) string {
	ctx, cancel, late := within(ctx, p.Timeout)
	defer cancel()
	err := target.AskHTTP(ctx, p.URL, protocol.CheckSettings{Status: p.Status, Contains: p.Contains})
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return late
	}
	return err.Error()
}

// unaskable says which commands of a wave can never answer.
func (r *Runner) unaskable(w protocol.WaveSettings) []string {
	var out []string
	for _, c := range w.Gates.Commands {
		if _, wrong := r.program(c); wrong != "" {
			out = append(out, fmt.Sprintf("gate %s of wave %s cannot open: %s", wave.CommandGate(c), w.Name, wrong))
		}
	}
	return out
}

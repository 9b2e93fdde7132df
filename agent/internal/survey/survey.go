// Package survey says what a conversion of this host would say, with the conversion's own rules, in a process of its own: it
// gives way to everybody else, its memory and time are bounded, and it only reads. Nothing of the host's files leaves that
// process but findings and names.
package survey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"rehost/convert"
	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Bounds of the process.
const (
	timeLimit   = 3 * time.Minute // a busy host may let an idle process wait for long
	memorySoft  = 192 << 20       // from here on the garbage collector works harder
	memoryLimit = 768 << 20       // of private memory, which the kernel enforces
)

// Request is what the helper process is told.
type Request struct {
	Root    string                      `json:"root"`  // folder of the root filesystem; empty: where it is mounted from the disks
	Disks   []string                    `json:"disks"` // whole disks that are replicated
	Options protocol.ConversionSettings `json:"options"`
	Scans   convert.Scans               `json:"scans"` // of earlier surveys
}

// Reply is what it says.
type Reply struct {
	Survey protocol.Survey `json:"survey"`
	Scans  convert.Scans   `json:"scans"`
}

// HelperArg names the helper among the agent's commands.
const HelperArg = "survey-helper"

// Run makes a survey in a helper process, which is the program cmd (empty: this one).
func Run(ctx context.Context, cmd string, req Request) (Reply, error) {
	if cmd == "" {
		cmd = "/proc/self/exe"
	}
	text, err := json.Marshal(req)
	if err != nil {
		return Reply{}, fmt.Errorf("write the survey's request: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	out, err := command.RunIn(limited, "", text, cmd, HelperArg)
	if errors.Is(limited.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return Reply{}, hint.Wrap(fmt.Errorf("look at the host: not done within %s", timeLimit), "the host is very busy: ask again later with rehost server preflight --fresh")
	}
	if err != nil {
		return Reply{}, fmt.Errorf("look at the host: %w", err)
	}
	var reply Reply
	if err := json.Unmarshal(out, &reply); err != nil {
		return Reply{}, fmt.Errorf("read the survey: %w", err)
	}
	return reply, nil
}

// HelperMain is the helper process.
func HelperMain(in io.Reader, out io.Writer) error {
	blockdev.BackgroundProcess()
	debug.SetMemoryLimit(memorySoft)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: memoryLimit, Max: memoryLimit}); err != nil {
		return fmt.Errorf("bound the memory: %w", err)
	}
	var req Request
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return hint.Wrap(fmt.Errorf("read the survey's request: %w", err), "do not run the survey helper by hand: the agent starts it")
	}
	reply, err := Look(req)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(reply); err != nil {
		return fmt.Errorf("write the survey: %w", err)
	}
	return nil
}

// Look makes a survey in this process.
func Look(req Request) (Reply, error) {
	start := time.Now()
	disks, findings, err := liveDisks(req.Disks)
	if err != nil {
		return Reply{}, err
	}
	at, hidden := req.Root, false
	if at == "" {
		at, hidden = rootOf(disks)
		seenFrom(at, disks)
	}
	if at == "" && hidden {
		return Reply{}, hint.New("the system on the replicated disks does not run here, and its root is not mounted", "mount it, or rely on a test launch")
	}
	reply := Reply{Scans: req.Scans, Survey: protocol.Survey{Order: protocol.SurveyOrder{Options: req.Options}}}
	findings = append(findings, convert.CheckStack(disks)...)
	if at != "" {
		planned, err := inspect(at, disks, req.Options, &reply)
		if err != nil {
			return Reply{}, err
		}
		findings = append(findings, planned...)
	}
	s := &reply.Survey
	s.Findings, s.Omitted = bound(findings)
	s.At, s.Seconds = time.Now(), time.Since(start).Seconds()
	return reply, nil
}

// inspect runs the conversion's own inspection and planning, and takes what they find.
func inspect(at string, disks []convert.Disk, options protocol.ConversionSettings, reply *Reply) ([]protocol.Finding, error) {
	root, err := convert.Open(at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // nothing was written
	scans := reply.Scans
	if scans == nil {
		scans = convert.Scans{}
	}
	facts, err := convert.InspectAgain(root, disks, scans)
	if err != nil {
		return nil, fmt.Errorf("inspect the host: %w", err)
	}
	plan, err := convert.MakePlan(facts, options)
	if _, refused := errors.AsType[*protocol.Problem](err); err != nil && !refused {
		return nil, fmt.Errorf("plan the conversion: %w", err)
	}
	for path := range scans { // of kernels that are gone
		if _, err := root.Stat(path); err != nil {
			delete(scans, path)
		}
	}
	reply.Survey.Guest, reply.Survey.Changes, reply.Scans = facts.Guest, len(plan.Edits), scans
	return plan.Findings, nil
}

// bound keeps a survey small enough for each report: the worst findings, and no long texts.
func bound(all []protocol.Finding) (kept []protocol.Finding, omitted int) {
	for _, severity := range []protocol.Severity{protocol.SeverityCritical, protocol.SeverityWarning, protocol.SeverityInfo} {
		for _, f := range all {
			if f.Severity != severity {
				continue
			}
			if len(kept) == protocol.MaxSurveyFindings {
				omitted++
				continue
			}
			f.Subject, f.Message, f.Hint = cut(f.Subject), cut(f.Message), cut(f.Hint)
			kept = append(kept, f)
		}
	}
	return kept, omitted
}

func cut(s string) string {
	if len(s) > protocol.MaxSurveyText {
		return s[:protocol.MaxSurveyText-3] + "..."
	}
	return s
}

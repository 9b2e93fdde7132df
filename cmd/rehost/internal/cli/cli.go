// Package cli is the operator's command line: one file for each verb. It asks the
// controller over the bus and prints what comes back; it decides nothing about a
// server itself, keeps no state but the context file, and talks to no cloud. The
// verbs dev and localcloud run roles in this process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rehost/internal/hint"
	"rehost/internal/program"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitPartial = 3
	exitTimeout = 4
)

const exitText = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some servers failed, 4 timed out waiting.
`

// Env is the world as a command sees it.
type Env struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Getenv   func(string) string
	Terminal bool          // Stdout is a terminal
	Color    bool          // and may be coloured
	Width    int           // of the terminal
	Poll     time.Duration // between two looks at something that is followed
}

// System returns the process's own world.
func System() Env {
	fd := int(os.Stdout.Fd())
	e := Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Terminal: term.IsTerminal(fd), Width: 80, Poll: 500 * time.Millisecond}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		e.Width = width
	}
	e.Color = e.colored()
	return e
}

// exitError is an error with an exit code of its own. err may be nil: then nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the caller's: exit code 2.
func usage(err error) error { return &exitError{exitUsage, err} }

// errAborted is what a confirmation returns that was not given.
var errAborted = errors.New("aborted, no changes made")

// Main runs one command line and returns the exit code.
func Main(ctx context.Context, env Env, args []string) int {
	root := newRoot(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitFailure
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	program.Report(env.Stderr, err)
	return code
}

func oneLine(s string) string { return program.OneLine(s) }

func newRoot(env Env) *cobra.Command {
	c := &client{env: env}
	root := &cobra.Command{
		Use:   "rehost",
		Short: "Move running servers into EC2",
		Long: "rehost moves running servers into EC2: it replicates their disks block by block while they run,\n" +
			"launches tests from consistency points, and cuts over wave by wave.",
		Example: "  rehost dev                          everything on this machine, with a local cloud\n" +
			"  rehost apply configs/small          make the fleet as the files say\n" +
			"  rehost server token web-1 --out d   what the agent on web-1 needs\n" +
			"  rehost status --watch               how far it is\n" +
			"  rehost wave test first              launch the wave's servers from a point",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.PersistentFlags().StringVar(&c.path, "context", "",
		"context `file` (default $REHOST_CONTEXT, then ./.rehost/context.json, then /etc/rehost/context.json)")
	root.PersistentFlags().StringVar(&c.reason, "reason", "", "`why` this is done, for the audit log")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(hint.Wrap(err, "run "+cmd.CommandPath()+" --help"))
	})
	root.AddCommand(
		newDev(env), newLocalCloud(env), newConvert(env),
		newFmt(env), newImport(env), newExport(env), newValidate(env), newPlan(env, c), newApply(env, c),
		newStatus(env, c), newServer(env, c), newWave(env, c), newJob(env, c), newPoint(env, c), newSweep(env, c), newVerify(env, c),
		newEvents(env, c), newAdmin(env, c), newVersion(env, c),
	)
	group(root)
	root.SetHelpTemplate(root.HelpTemplate() + exitText)
	checkArgs(root)
	completeNames(c, root)
	return root
}

// group makes a command that only holds others refuse an unknown one instead of printing its help as if all were well.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		next := "run " + cmd.CommandPath() + " --help"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			best := slices.MinFunc(near, func(a, b string) int {
				return levenshtein.Distance(a, args[0], nil) - levenshtein.Distance(b, args[0], nil)
			})
			next = "did you mean " + cmd.CommandPath() + " " + best + "?"
		}
		return hint.New(fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath()), next)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// one is for commands that take exactly one argument, called name.
func one(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return hint.New(cmd.CommandPath()+" needs "+name, "write "+cmd.CommandPath()+" "+name+"; see "+cmd.CommandPath()+" --help")
		case len(args) > 1:
			return hint.New(fmt.Sprintf("%s takes one %s, and %q is too much", cmd.CommandPath(), name, args[1]), "see "+cmd.CommandPath()+" --help")
		}
		return nil
	}
}

// two accepts exactly two arguments.
func two(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 2 {
			return nil
		}
		return hint.New(fmt.Sprintf("%s needs %s and %s", cmd.CommandPath(), first, second), fmt.Sprintf("write %s %s %s; see %s --help", cmd.CommandPath(), first, second, cmd.CommandPath()))
	}
}

// checkArgs makes wrong arguments a usage error in every command.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err != nil && hint.Of(err) == "" {
				err = hint.Wrap(err, "run "+cmd.CommandPath()+" --help")
			}
			if err != nil {
				return usage(err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"rehost/controller"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// askedCloud is a cloud of which nothing is made: it knows every type, subnet and group that somebody names.
type askedCloud struct{ controller.Cloud }

func (askedCloud) InstanceType(_ context.Context, name string) (cloud.Type, error) {
	return cloud.Type{Name: name}, nil
}

func (askedCloud) NetworkOf(context.Context, string) (cloud.Network, error) {
	return cloud.Network{ID: "vpc-1"}, nil
}

func (askedCloud) GroupNetwork(context.Context, string) (string, error) { return "vpc-1", nil }

func (askedCloud) TryInstance(context.Context, cloud.InstanceSpec) error             { return nil }
func (askedCloud) TryVolume(context.Context, cloud.VolumeSpec, string, string) error { return nil }
func (askedCloud) TryImage(context.Context, cloud.ImageSpec, string) error           { return nil }
func (askedCloud) TryGroup(context.Context, cloud.GroupSpec) error                   { return nil }
func (askedCloud) TryOwn(context.Context, string) []cloud.Trial                      { return nil }
func (askedCloud) Key(context.Context, string) error                                 { return nil }
func (askedCloud) Used(context.Context) (cloud.Used, error)                          { return cloud.Used{}, nil }

func (askedCloud) LimitOf(context.Context, cloud.Limit) (float64, error) { return 1e6, nil }

// realController runs a controller with its own bus until the test ends, and returns the operator's context file.
func realController(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	operator := filepath.Join(dir, "operator.json")
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- controller.Run(ctx, controller.Config{Dir: dir, Listen: "127.0.0.1:0", OperatorContext: operator}, controller.Deps{
			Logger: hclog.NewNullLogger(), Cloud: askedCloud{}, Ready: func(protocol.Bus) { close(ready) },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the controller ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the controller ended: %v", err)
	}
	return operator
}

// console are the blocks of a page with commands after "$ " and what they print.
var console = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// The transcripts of the documentation are what the programs print: each page is run from its top to its end, against a controller
// that knows nothing yet, in a folder with configs/. -update writes what they print now.
func TestTheTranscriptsOfTheDocsAreTrue(t *testing.T) {
	for _, name := range []string{"operations.md", "configuration.md"} {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("../../../../docs", name))
			if err != nil {
				t.Fatal(err)
			}
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			work := t.TempDir()
			if err := os.CopyFS(filepath.Join(work, "configs"), os.DirFS("../../../../configs")); err != nil {
				t.Fatal(err)
			}
			t.Chdir(work)
			file := realController(t)
			ran := 0
			now := console.ReplaceAllStringFunc(string(page), func(block string) string {
				ran++
				return "```console\n" + transcript(t, file, console.FindStringSubmatch(block)[1]) + "```\n"
			})
			if ran == 0 {
				t.Fatal("no transcript was found")
			}
			if diff := cmp.Diff(string(page), now); diff != "" && *update {
				if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if diff != "" {
				t.Errorf("(-page +what is printed)\n%s", diff)
			}
		})
	}
}

// transcript runs the commands of a block and returns the block as it is then.
func transcript(t *testing.T, contextFile, block string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(block) {
		text, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "$ ")
		if !ok {
			continue
		}
		out.WriteString(line)
		if words := split(text); words[0] == "rehost" {
			env, printed, errors := testEnv(contextFile, "")
			Main(t.Context(), env, words[1:])
			out.WriteString(printed.String() + errors.String())
			continue
		}
		printed, err := exec.CommandContext(t.Context(), "sh", "-c", text).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", text, err, printed)
		}
		out.Write(printed)
	}
	return out.String()
}

// Commands that the documentation names exist, with the flags that it gives them.
func TestTheCommandsOfTheDocsExist(t *testing.T) {
	pages, err := filepath.Glob("../../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fence, command := regexp.MustCompile("(?ms)^```.*?^```"), regexp.MustCompile(`(?m)^(?:\$ )?(?:bin/)?(rehost [a-z].*)$`)
	found := 0
	for _, page := range append(pages, "../../../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllString(string(text), -1) {
			for _, line := range command.FindAllStringSubmatch(block, -1) {
				found++
				wantCommand(t, strings.TrimSuffix(line[1], "&"))
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d commands were found", found)
	}
}

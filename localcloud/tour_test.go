package localcloud_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"rehost/localcloud"
)

var update = flag.Bool("update", false, "write the transcript anew")

const (
	// transcript is a terminal session: comments, commands after a $, and what
	// each command said. The test runs the commands and compares what they say.
	transcript = "testdata/tour.txt"
	// awscli is Debian's; another one may come first on PATH.
	awscli = "/usr/bin/aws"
)

// Somebody else's client cannot tell where it runs: Debian's awscli gets the
// answers that are written down.
func TestTourWithAWSCLI(t *testing.T) {
	if _, err := os.Stat(awscli); err != nil {
		t.Fatalf("%v: run scripts/install-packages", err)
	}
	dir := t.TempDir()
	cfg := testConfig(dir, processImage, localcloud.Image{Name: "halts", Path: bootDisk(t, "booted and waiting", halts)})
	cfg.Quotas = localcloud.Quotas{VCPUs: 6, Volumes: 14, Snapshots: 6, StorageGiB: 64}
	cfg.Denied, cfg.KMSKeys = []string{"ec2:ModifyInstanceAttribute"}, []string{"alias/tour"}
	c, _ := start(t, cfg)
	s := newSession(t, dir, *c.Options().BaseEndpoint)
	want := mustRead(t, transcript)
	began, commands := time.Now(), 0
	var got strings.Builder
	for heading, lines := range sections(want) {
		got.WriteString(heading)
		commands += len(lines)
		for i, said := range s.run(lines, strings.HasSuffix(heading, atOnce)) {
			fmt.Fprintf(&got, "$ %s\n%s\n", lines[i], said)
		}
	}
	t.Logf("%d commands in %s", commands, time.Since(began).Round(time.Second))
	if *update {
		if err := os.WriteFile(transcript, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("the session differs from %s (-want +got); write it anew with go test -run Tour ./localcloud -update:\n%s", transcript, diff)
	}
}

// atOnce ends the headings of sections whose commands do not depend on each other.
const atOnce = "(at once)\n"

// sections yields the headings of a transcript with the commands below them.
func sections(text string) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		var heading string
		var lines []string
		for line := range strings.Lines(text + "#\n") {
			switch {
			case strings.HasPrefix(line, "$ "):
				lines = append(lines, strings.TrimSpace(line[2:]))
			case strings.HasPrefix(line, "#"):
				if heading != "" && !yield(heading, lines) {
					return
				}
				heading, lines = line, nil
			}
		}
	}
}

// session is a shell in which aws talks to the local cloud. What differs from
// run to run is shown by a name, such as <vol-1>, and commands may use the names.
type session struct {
	t     *testing.T
	dir   string
	env   []string
	names map[string]string // by value
	count map[string]int    // by kind
}

func newSession(t *testing.T, data, endpoint string) *session {
	t.Helper()
	s := &session{t: t, dir: t.TempDir(), names: map[string]string{}, count: map[string]int{}}
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s --endpoint-url %s \"$@\"\n", awscli, endpoint)
	if err := os.WriteFile(filepath.Join(s.dir, "aws"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	s.env = []string{
		"PATH=" + s.dir + ":/usr/bin:/bin", "HOME=" + s.dir, "AWS_SHARED_CREDENTIALS_FILE=" + localcloud.CredentialsFile(data),
		"AWS_DEFAULT_REGION=" + region, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "LC_ALL=C.UTF-8", "TZ=UTC",
	}
	return s
}

// run executes lines and returns what each said.
func (s *session) run(lines []string, atOnce bool) []string {
	s.t.Helper()
	said := make([]string, len(lines))
	if !atOnce {
		for i, line := range lines {
			said[i] = s.normal(s.execute(s.named(line)))
		}
		return said
	}
	var g errgroup.Group
	g.SetLimit(3 * runtime.NumCPU() / 2)
	for i, line := range lines {
		line = s.named(line)
		g.Go(func() error {
			said[i] = s.execute(line)
			return nil
		})
	}
	_ = g.Wait() // nothing fails: what goes wrong is in what the commands say
	for i := range said {
		said[i] = s.normal(said[i])
	}
	return said
}

// named puts values in the place of their names.
func (s *session) named(line string) string {
	for value, name := range s.names {
		line = strings.ReplaceAll(line, name, value)
	}
	return line
}

// execute returns what a command said, with the exit status when it is not 0.
func (s *session) execute(line string) string {
	cmd := exec.CommandContext(s.t.Context(), "/bin/sh", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	text := string(bytes.TrimSpace(out))
	if text != "" {
		text += "\n"
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return text + fmt.Sprintf("[exit status %d]\n", exit.ExitCode())
	}
	if err != nil {
		return text + err.Error() + "\n"
	}
	return text
}

// varying is what differs from run to run, by kind. Kinds without a number are
// not worth telling apart.
var varying = []struct {
	kind string
	form *regexp.Regexp
}{
	{"token-", regexp.MustCompile(`eyJ[A-Za-z0-9+/=]{20,}`)},
	{"block-token-", regexp.MustCompile(`\b[A-Za-z0-9_-]{43}\b`)},
	{"block-expiry", regexp.MustCompile(`\b1[789]\d{8}\.\d+`)},
	{"time", regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?`)},
	{"time", regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d:\d\d GMT`)},
	{"name-", regexp.MustCompile(`ip-127-77-\d+-\d+`)},
	{"address-", regexp.MustCompile(`\b127\.77\.[1-9]\d*\.\d+\b`)},
	{"mac-", regexp.MustCompile(`\b02:77(:[0-9a-f]{2}){4}\b`)},
	{"client-token", regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)},
	{"access-key", regexp.MustCompile(`\bAKIA[A-Z0-9]{16}\b`)},
	{"endpoint", regexp.MustCompile(`http://127\.0\.0\.1:\d+/?`)},
}

// madeUp is the id of things that are not there.
const madeUp = "0123456789abcdef0"

var idForm = regexp.MustCompile(`\b([a-z]+)-[0-9a-f]{17}\b`)

func (s *session) normal(text string) string {
	for _, v := range varying {
		text = v.form.ReplaceAllStringFunc(text, func(value string) string { return s.name(v.kind, value) })
	}
	return idForm.ReplaceAllStringFunc(text, func(id string) string {
		kind, digits, _ := strings.Cut(id, "-")
		if digits == madeUp {
			return id
		}
		return s.name(kind+"-", id)
	})
}

func (s *session) name(kind, value string) string {
	if !strings.HasSuffix(kind, "-") {
		return "<" + kind + ">"
	}
	if s.names[value] == "" {
		s.count[kind]++
		s.names[value] = fmt.Sprintf("<%s%d>", kind, s.count[kind])
	}
	return s.names[value]
}

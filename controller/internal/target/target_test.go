package target_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rehost/controller/internal/target"
	"rehost/controller/internal/target/targettest"
	"rehost/protocol"
)

// cloud is what a test lets the cloud say.
type cloud struct{ console, system, instance string }

func (c cloud) ConsoleOutput(context.Context, string) (string, error) { return c.console, nil }
func (c cloud) StatusChecks(context.Context, string) (system, instance string, err error) {
	return c.system, c.instance, nil
}

// ask wants the check to pass (want is empty), or its error to say so.
func ask(t *testing.T, on target.Target, c protocol.CheckSettings, want string) {
	t.Helper()
	judge(t, on.Ask(t.Context(), c), c, want)
}

func judge(t *testing.T, err error, c protocol.CheckSettings, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v, and it should pass", c.Kind, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want %q", c.Kind, err, want)
	}
}

func TestInstance(t *testing.T) {
	for status, want := range map[cloud]string{
		{system: "ok", instance: "ok"}:           "",
		{system: "ok", instance: "initializing"}: "system ok, instance initializing",
		{system: "impaired", instance: "ok"}:     "system impaired, instance ok",
		{}:                                       "the cloud's checks say",
	} {
		ask(t, target.Target{Cloud: status}, protocol.CheckSettings{Kind: "instance"}, want)
	}
}

func TestConsole(t *testing.T) {
	for _, c := range []struct {
		text, want string
		lasts      bool
	}{
		{"Debian GNU/Linux 12 web-1 ttyS0\n\nweb-1 login: ", "", false},
		{"[    0.000000] Linux version 6.1\n[    1.0] random: crng init done", `does not contain "login:"; it ends with:` + "\n[    0.0", false},
		{"x\nKernel panic - not syncing: VFS: Unable to mount root fs", "the kernel has panicked", true},
		{"[    0.0] Linux version 6.1\nKernel panic - not syncing: once\n[    0.0] Linux version 6.1\nagain", "does not contain", false},
		{"Give root password for maintenance\n(or press Control-D to continue): ", "waits for root's password", true},
		{"ALERT!  UUID=1 does not exist.  Dropping to a shell!\n(initramfs) ", "has not found the root filesystem", true},
		{"dracut-initqueue[300]: Warning: dracut-initqueue timeout - starting timeout scripts", "does not contain", false},
		{"dracut-initqueue[300]: Warning: Could not boot.", "has not found the root filesystem", true},
	} {
		check := protocol.CheckSettings{Kind: "console", Contains: "login:"}
		err := target.Target{Cloud: cloud{console: c.text}}.Ask(t.Context(), check)
		if judge(t, err, check, c.want); target.Lasts(err) != c.lasts {
			t.Errorf("%v lasts: %v", err, !c.lasts)
		}
	}
}

func TestHTTPAndTCP(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Shop", "eu, 2")
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
		_, _ = w.Write([]byte("it works"))
	}))
	defer page.Close()
	on := target.Target{Address: "127.0.0.1"}
	port := page.Listener.Addr().(*net.TCPAddr).Port
	check := protocol.CheckSettings{Kind: "http", Port: port, Path: "/", Status: 200, Contains: "works", Headers: map[string]string{"x-shop": "eu"}}
	ask(t, on, check, "")
	other := check
	other.Status = 204
	ask(t, on, other, "200 OK, wanted 204")
	other = check
	other.Contains = "closed"
	ask(t, on, other, `without "closed"`)
	other = check
	other.Headers = map[string]string{"X-Shop": "us"}
	ask(t, on, other, `the header X-Shop "eu, 2", wanted "us"`)
	other.Headers = map[string]string{"X-None": ""}
	ask(t, on, other, `the header X-None ""`)
	other = check
	other.Path, other.Status, other.Contains, other.Headers = "/moved", 302, "", map[string]string{"Location": "/"}
	ask(t, on, other, "")
	ask(t, on, protocol.CheckSettings{Kind: "tcp", Port: port}, "")
	page.Close()
	ask(t, on, protocol.CheckSettings{Kind: "tcp", Port: port}, "refused")
}

func TestDNS(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		switch name := q.Question[0].Name; {
		case name != "shop.example.org." && name != "localhost.":
			a.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			for _, text := range []string{"shop.example.org. 60 IN CNAME web.example.org.", "web.example.org. 60 IN A 10.0.0.7"} {
				rr, err := dns.NewRR(text)
				if err != nil {
					t.Error(err)
				}
				a.Answer = append(a.Answer, rr)
			}
		}
		_ = w.WriteMsg(a)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	defer func() { conn.Close(); <-ended }() //nolint:errcheck // the server hears of it
	on := target.Target{Address: "10.0.0.7"}
	for _, c := range []struct{ lookup, answer, want string }{
		{"shop.example.org", "", ""},
		{"shop.example.org.", "10.0.0.7", ""},
		{"shop.example.org", "target", ""},
		{"shop.example.org", "10.0.0.8", "answers 10.0.0.7 for shop.example.org, wanted 10.0.0.8"},
		{"none.example.org", "", "NXDOMAIN"},
		{"localhost", "127.0.0.1", "answers 10.0.0.7"}, // and not this machine's hosts file
	} {
		ask(t, on, protocol.CheckSettings{Kind: "dns", Resolver: conn.LocalAddr().String(), Lookup: c.lookup, Answer: c.answer}, c.want)
	}
}

// shells is a target whose commands run on this machine.
func shells(s *targettest.Server) target.Target {
	return target.Target{Dial: func(ctx context.Context) (*target.Shell, error) {
		return target.Dial(ctx, target.Login{Address: s.Address(), User: "root", KeyFile: s.KeyFile})
	}}
}

func TestSSH(t *testing.T) {
	on := shells(targettest.Start(t))
	ask(t, on, protocol.CheckSettings{Kind: "ssh", Command: []string{"sh", "-c", "echo it\\'s '$1' | tr s z; exit 3", "-"}, ExitCode: 3, Contains: "it'z"}, "")
	ask(t, on, protocol.CheckSettings{Kind: "ssh", Command: []string{"echo", "a  b'$HOME"}, Contains: "a  b'$HOME"}, "")
	ask(t, on, protocol.CheckSettings{Kind: "ssh", Command: []string{"sh", "-c", "echo no such thing >&2; exit 4"}}, "exit code 4, wanted 0; it says:\nno such thing")
	ask(t, on, protocol.CheckSettings{Kind: "ssh", Command: []string{"echo", "degraded"}, Contains: "running"}, "does not say \"running\"; it says:\ndegraded")
}

func TestUnitsAndProcesses(t *testing.T) {
	on := shells(targettest.Start(t))
	ask(t, on, protocol.CheckSettings{Kind: "process", Process: filepath.Base(os.Args[0])}, "")
	ask(t, on, protocol.CheckSettings{Kind: "process", Process: "no-such-thing"}, "no process no-such-thing among ")
	bin := t.TempDir() // with a systemctl that knows one unit
	script := "#!/bin/sh\n[ \"$1 $2 $3\" = 'is-active -- up.service' ] && echo active && exit 0\necho failed\nexit 3\n"
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ask(t, on, protocol.CheckSettings{Kind: "unit", Unit: "up.service"}, "")
	ask(t, on, protocol.CheckSettings{Kind: "unit", Unit: "down.service"}, "unit down.service is failed")
}

func TestAKeyThatIsNotWhatItWasLasts(t *testing.T) {
	s := targettest.Start(t)
	login := target.Login{Address: s.Address(), User: "root", KeyFile: s.KeyFile}
	shell, err := target.Dial(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close() //nolint:errcheck // of a test
	login.HostKey = shell.HostKey()
	if again, err := target.Dial(t.Context(), login); err != nil {
		t.Errorf("the same key: %v", err)
	} else {
		again.Close() //nolint:errcheck // of a test
	}
	login.Address = targettest.Start(t).Address()
	if _, err := target.Dial(t.Context(), login); err == nil || !target.Lasts(err) || !strings.Contains(err.Error(), "had another one before") {
		t.Errorf("another host key: got %v", err)
	}
	login = target.Login{Address: s.Address(), User: "root", KeyFile: targettest.Start(t).KeyFile}
	if _, err := target.Dial(t.Context(), login); err == nil || target.Lasts(err) || !strings.Contains(err.Error(), "as root") {
		t.Errorf("another client key: got %v", err) // cloud-init may bring it later
	}
	login.KeyFile += ".none"
	if _, err := target.Dial(t.Context(), login); err == nil || !target.Lasts(err) {
		t.Errorf("no key file: got %v", err)
	}
}

// TestWhatHangsEnds: hosts that take a connection and say nothing, and commands that never end.
func TestWhatHangsEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // of a test
	s := targettest.Start(t)
	late := errors.New("the time is over")
	for name, login := range map[string]target.Login{
		"silent host":   {Address: l.Addr().String(), User: "root", KeyFile: s.KeyFile},
		"endless sleep": {Address: s.Address(), User: "root", KeyFile: s.KeyFile},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 500*time.Millisecond, late)
		on := target.Target{Dial: func(ctx context.Context) (*target.Shell, error) { return target.Dial(ctx, login) }}
		if err := on.Ask(ctx, protocol.CheckSettings{Kind: "ssh", Command: []string{"sleep", "10000"}}); !errors.Is(err, late) {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
	}
}

func TestTheMachineOfTheTestHasItsMounts(t *testing.T) {
	bin := t.TempDir()
	root, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Fields(string(root))[1]
	cat := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = /etc/fstab ] && echo 'LABEL=x %s ext4 defaults 0 1' && exit\nexec /bin/cat \"$@\"\n", at)
	if err := os.WriteFile(filepath.Join(bin, "cat"), []byte(cat), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ask(t, shells(targettest.Start(t)), protocol.CheckSettings{Kind: "mounts"}, "")
}

func TestScripts(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	s := targettest.Start(t)
	shell, err := target.Dial(t.Context(), target.Login{Address: s.Address(), User: "root", KeyFile: s.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close() //nolint:errcheck // of a test
	long := "#!/bin/sh\n" + strings.Repeat("# as long as it may be\n", 20000)
	for name, c := range map[string]struct {
		script, want string
		code         int
	}{
		"says":                {"#!/bin/sh\necho \"it's $((1 + 1))\"; echo 'and' \\$ >&2; exit 3\n", "it's 2\nand $\n", 3},
		"has an argument":     {"#!/bin/sh -e\nfalse\necho on\n", "", 1},
		"is looked for":       {"#!/usr/bin/env sh\necho $#\n", "0\n", 0},
		"has no input":        {"#!/bin/sh\ncat\necho end\n", "end\n", 0},
		"long":                {long + "echo end", "end\n", 0},
		"without interpreter": {"#!/no/such/thing\n", "/no/such/thing", 127},
	} {
		got, err := shell.RunScript(t.Context(), c.script)
		if err != nil || got.Code != c.code || !strings.Contains(got.Output, c.want) || c.want == "" && got.Output != "" {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// TestFirstBoot reads what the unit of the first boot writes, between what the rest of the guest does.
func TestFirstBoot(t *testing.T) {
	const before = "[ 9.1] systemd[1]: Started\r\nrehost: first boot: 01-join begins\r\nrehost: first boot: 01-join ended with 0\r\n[10.2] first[400]: rehost: first boot: 02-action.join begins\r\n" +
		"[\x1b[0;32m  OK  \x1b[0m] Started getty@tty1.service\r\n[10.3] first[401]: hello\r\n[10.3] sh[402]: of another unit\r\n"
	for _, c := range []struct {
		console, want string
		code          int
		lasts         bool
	}{
		{"", "does not say that it has ended", 0, false},
		{before, "it ends with:\n[ 9.1]", 0, false},
		{before + "[10.4] first[400]: rehost: first boot: 02-action.join ended with 12", "does not say", 0, false}, // it is being written
		{before + "[10.4] first[400]: rehost: first boot: 02-action.join ended with 124\r\n", "", 124, false},
		{before + "Kernel panic - not syncing: no", "has panicked", 0, true},
	} {
		got, err := target.Target{Cloud: cloud{console: c.console}}.FirstBoot(t.Context(), "action.join")
		judge(t, err, protocol.CheckSettings{Kind: "first boot"}, c.want)
		if target.Lasts(err) != c.lasts || got.Code != c.code || err == nil && got.Output != "hello\n" {
			t.Errorf("%q: got %+v, %v", c.console, got, err)
		}
	}
	const bare = "rehost: first boot: 01-own begins\r\nhello\r\n[1.0] eth0 is up\r\nrehost: first boot: 01-own ended with 0\r\n"
	got, err := target.Target{Cloud: cloud{console: bare}}.FirstBoot(t.Context(), "own")
	if err != nil || got.Output != "hello\n[1.0] eth0 is up\n" {
		t.Errorf("a console without the journal's names: got %+v, %v", got, err)
	}
}

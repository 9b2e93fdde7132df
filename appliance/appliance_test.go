package appliance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/appliance"
	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/boot"
	"rehost/test/image"
)

// connectTo makes this test binary a pipe to a TCP address: QEMU starts it for
// each connection of the guest to the metadata service.
const connectTo = "REHOST_TEST_CONNECT_TO"

func TestMain(m *testing.M) {
	if address := os.Getenv(connectTo); address != "" {
		pipe(address)
		return
	}
	os.Exit(m.Run())
}

func pipe(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(c, os.Stdin) }()
	_, _ = io.Copy(os.Stdout, c)
}

// TestConvertedServerBootsFromNVMe runs the appliance as EC2 would, on a copy of a
// server's disk, and then boots that disk on NVMe with another network card. That
// the same disk does not boot unconverted is tested in test/boot.
func TestConvertedServerBootsFromNVMe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the server's disk is changed through a loop device first")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the images may have to be built, on a machine that does other work
	defer cancel()
	source, err := image.Build(ctx, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	machine := buildAppliance(ctx, t, dir)
	disk := filepath.Join(dir, "disk.raw")
	if err := image.Copy(ctx, source, disk); err != nil {
		t.Fatal(err)
	}
	prepare(ctx, t, disk, dir)

	start := time.Now()
	report := convertInMachine(ctx, t, machine, disk)
	t.Logf("conversion: %.1f s from power on to power off, %.1f s by the machine's clock", time.Since(start).Seconds(), report.Seconds)
	if !report.OK {
		t.Fatalf("got problem %+v", report.Problem)
	}
	if report.Job != "job-1" || !strings.Contains(report.Guest.RootDevice, "nvme") || report.Guest.Kernel == "" {
		t.Errorf("got job %q, guest %+v", report.Job, report.Guest)
	}
	for _, path := range []string{
		"/boot/initrd.img-" + report.Guest.Kernel, "/boot/grub/grub.cfg", "/etc/fstab", "/etc/network/interfaces",
		"/usr/bin/rehost-agent", "/etc/systemd/system/rehost-agent.service",
	} {
		if !slices.ContainsFunc(report.Changes, func(c protocol.Change) bool { return c.Path == path }) {
			t.Errorf("no change of %s is reported", path)
		}
	}
	if len(report.Scripts) != 1 || report.Scripts[0].Output != "openssh-server is installed" {
		t.Errorf("got scripts %+v", report.Scripts)
	}
	bootConverted(ctx, t, disk)
}

func buildAppliance(ctx context.Context, t *testing.T, dir string) string {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0")
	program := filepath.Join(dir, "rehost-convert")
	if _, err := command.Run(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "rehost/cmd/rehost-convert"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	path, err := appliance.Build(ctx, appliance.Options{Convert: program, Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("appliance: %d bytes, built or found in %.1f s", info.Size(), time.Since(start).Seconds())
	if info.Size() > 80_000_000 {
		t.Errorf("got an image of %d bytes, want at most 80 MB", info.Size())
	}
	again, err := appliance.Build(ctx, appliance.Options{Convert: program})
	if err != nil || again != path {
		t.Errorf("got %s, %v from the second build, want %s", again, err, path)
	}
	return path
}

// fix runs in the conversion, with the programs of the guest.
const fix = `#!/bin/bash -eu
dpkg-query -W -f '${Package} is ${db:Status-Status}\n' openssh-server
useradd --system "$REHOST_PURPOSE-user"
`

// hello runs at the first boot, and fails when the guest is still the machine that it was.
const hello = `#!/bin/sh -eu
echo "hello from $(hostname)"
other() {
	[ -s "$1" ]
	[ -s "/var/lib/rehost/conversion/$2" ]
	if cmp -s "$1" "/var/lib/rehost/conversion/$2"; then echo "$1 is the old one"; exit 1; fi
}
other /etc/machine-id etc+machine-id
systemctl start ssh
other /etc/ssh/ssh_host_rsa_key etc+ssh+ssh_host_rsa_key
other /etc/ssh/ssh_host_ed25519_key etc+ssh+ssh_host_ed25519_key
id test-user
`

// prepare gives the server an agent, and a script for its first boot as an instance.
func prepare(ctx context.Context, t *testing.T, disk, dir string) {
	t.Helper()
	file := filepath.Join(dir, "agent")
	if err := os.WriteFile(file, []byte("the agent\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := image.Attach(ctx, disk)
	if err != nil {
		t.Fatal(err)
	}
	scripts := filepath.Join(s.Root, "boot/post_launch")
	err = errors.Join(
		image.InstallAgent(s.Root, file, file, file), os.Mkdir(scripts, 0o755),
		os.WriteFile(filepath.Join(scripts, "10-hello"), []byte(hello), 0o755),
	)
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// metadata serves an order as EC2's metadata service does: only to those with a session token.
func metadata(t *testing.T, order protocol.ConversionOrder) (address string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "token") })
	mux.HandleFunc("GET /latest/user-data", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(order)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func convertInMachine(ctx context.Context, t *testing.T, machine, disk string) protocol.ConversionReport {
	t.Helper()
	order := protocol.ConversionOrder{
		Job: "job-1", Server: "ledger", Purpose: "test",
		Disks: []protocol.ConversionDisk{{Volume: "vol-0123456789abcdef0", Boot: true}},
		Options: protocol.ConversionSettings{
			Identity: protocol.IdentityNew,
			Scripts:  []protocol.Script{{Name: "fix", Phase: protocol.ScriptAfterConversion, Content: fix}},
		},
	}
	t.Setenv(connectTo, metadata(t, order))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(t.TempDir(), "console")
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	_, err = command.Run(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-machine", "pc", "-m", "1024", "-nodefaults",
		"-display", "none", "-vga", "std", "-no-reboot", "-serial", "file:"+console,
		"-drive", "if=none,id=boot,format=raw,snapshot=on,file="+machine, "-device", "nvme,drive=boot,serial=vol0aaaaaaaaaaaaaaaa,bootindex=1",
		"-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "nvme,drive=disk,serial=vol0123456789abcdef0",
		"-netdev", "user,id=net,net=169.254.0.0/16,restrict=on,guestfwd=tcp:169.254.169.254:80-cmd:"+self,
		"-device", "e1000e,netdev=net,romfile=")
	text, readErr := os.ReadFile(console)
	if err != nil || readErr != nil {
		t.Fatalf("run the appliance: %v; its console:\n%s", err, text)
	}
	report, ok, err := protocol.ParseConsole(string(text))
	if err != nil || !ok {
		t.Fatalf("no report on the console: %v\n%s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "rehost-convert:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return report
}

func bootConverted(ctx context.Context, t *testing.T, disk string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	o := boot.Options{Disk: disk, Bus: boot.BusNVMe, NIC: boot.NICE1000e, Forward: []boot.Forward{{Host: address, Guest: ":80"}}}
	err = boot.Run(ctx, o, func(ctx context.Context, m *boot.Machine) error {
		if _, err := m.Wait(ctx, regexp.MustCompile(`login: `)); err != nil {
			return err
		}
		t.Logf("login prompt after %.1f s", time.Since(start).Seconds())
		if strings.Contains(m.Console(), "rehost-agent") {
			t.Error("the agent is still there")
		}
		if err := waitPage(ctx, "http://"+address+"/", image.Sentence); err != nil {
			return err
		}
		_, err := m.Wait(ctx, regexp.MustCompile(`(?s)hello from ledger.*rehost: first boot: done, 0 failed`))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("page after %.1f s", time.Since(start).Seconds())
}

// waitPage waits until the page at url has the text.
func waitPage(ctx context.Context, url, want string) error {
	client := &http.Client{Timeout: 3 * time.Second}
	for {
		resp, err := client.Get(url)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if strings.Contains(string(body), want) {
				return nil
			}
			err = fmt.Errorf("got %s: %s", resp.Status, body)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", url, err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

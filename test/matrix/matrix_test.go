package matrix

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"rehost/appliance"
	"rehost/convert/offline"
	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/boot"
	"rehost/test/image"
)

const (
	// bootDeadline is several times what a boot takes on two idle processors.
	bootDeadline = 5 * time.Minute
	// quiet is how long nothing must answer on a control that has come up.
	quiet = 20 * time.Second
)

// TestMatrix converts each server and boots it from NVMe on another card with another address, next to its control.
// REHOST_MATRIX is a regular expression for the names of the combinations.
func TestMatrix(t *testing.T) {
	want := os.Getenv("REHOST_MATRIX")
	if want == "" {
		t.Skip("it takes minutes for each combination: make boot-matrix")
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: the disks need loop devices and mounts")
	}
	chosen := regexp.MustCompile(want)
	progress := func(s string) { t.Log(s) }
	archive, err := tree(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	appliance := buildAppliance(t)
	for _, c := range combinations {
		if chosen.MatchString(c.name) {
			t.Run(c.name, func(t *testing.T) { tryCombination(t, c, archive, appliance) })
		}
	}
}

func buildAppliance(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "rehost-convert")
	build := []string{"CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "rehost/cmd/rehost-convert"}
	if _, err := command.Run(t.Context(), "env", build...); err != nil {
		t.Fatal(err)
	}
	path, err := appliance.Build(t.Context(), appliance.Options{Convert: program})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func tryCombination(t *testing.T, c combination, archive, appliance string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	start := time.Now()
	disk, err := makeDisk(t.Context(), c, archive, dir, string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the disk took %s", time.Since(start).Round(time.Second))
	converted := filepath.Join(dir, "converted.raw")
	if err := image.Copy(t.Context(), disk, converted); err != nil {
		t.Fatal(err)
	}
	applyTwice(t, offline.Job{Appliance: appliance, Disks: []string{converted}, Action: protocol.ActionApply})
	var wg sync.WaitGroup
	wg.Go(func() { control(t, c, disk) })
	wg.Go(func() { booted(t, c, converted, key) })
	wg.Wait()
}

// applyTwice converts; the second time must find nothing to do.
func applyTwice(t *testing.T, job offline.Job) {
	t.Helper()
	for i := range 2 {
		r, err := offline.Run(t.Context(), job)
		if err != nil || !r.OK {
			t.Fatalf("convert: %v, problem %+v, findings %+v", err, r.Problem, r.Findings)
		}
		t.Logf("converted with %d changes in %.1f s", len(r.Changes), r.Seconds)
		if (i == 0) != (len(r.Changes) > 0) {
			t.Errorf("time %d has %d changes: %+v", i+1, len(r.Changes), r.Changes)
		}
	}
}

// control boots the disk as it was, on the machine that the converted one gets.
func control(t *testing.T, c combination, disk string) {
	t.Helper()
	start, address := time.Now(), freePort(t)
	err := machine(t.Context(), c, disk, address, func(ctx context.Context, m *boot.Machine) error {
		found, err := m.Wait(ctx, c.fails)
		if err != nil || !c.silent {
			t.Logf("control: %q after %s", found, time.Since(start).Round(time.Second))
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, quiet)
		defer cancel()
		if banner, err := waitBanner(ctx, address); err == nil {
			return fmt.Errorf("it answers SSH without conversion: %q", banner)
		}
		t.Logf("control: up, no answer after %s", time.Since(start).Round(time.Second))
		return nil
	})
	if err != nil {
		t.Error("control:", err)
	}
}

func machine(ctx context.Context, c combination, disk, address string, watch func(context.Context, *boot.Machine) error) error {
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	return boot.Run(ctx, boot.Options{
		Disk: disk, MAC: otherMAC, UEFI: c.table == "uefi", Forward: []boot.Forward{{Host: address, Guest: ":22"}},
	}, watch)
}

// booted boots the converted disk and asks over SSH how it is.
func booted(t *testing.T, c combination, disk string, key ssh.Signer) {
	t.Helper()
	start, address := time.Now(), freePort(t)
	err := machine(t.Context(), c, disk, address, func(ctx context.Context, m *boot.Machine) error {
		if _, err := waitBanner(ctx, address); err != nil {
			console := m.Console()
			return fmt.Errorf("%w; the console ends with:\n%s", err, console[max(0, len(console)-3000):])
		}
		t.Logf("answers SSH after %s", time.Since(start).Round(time.Second))
		said, err := ask(address, key, "systemctl start --quiet multi-user.target && systemctl is-active multi-user.target; systemctl list-units --failed --plain --no-legend; findmnt -no SOURCE /; ls -d /sys/bus/pci/drivers/e1000e/0*")
		if err != nil {
			return err
		}
		t.Logf("it says:\n%s", said)
		if !strings.HasPrefix(said, "active\n") || strings.Contains(said, ".service") || !strings.Contains(said, "/dev/nvme0n1p") || !strings.Contains(said, "0000:00:03.0") {
			return errors.New("that is not a server in order, from NVMe and on an e1000e")
		}
		return nil
	})
	if err != nil {
		t.Error("converted:", err)
	}
}

// waitBanner waits for an SSH server to speak: QEMU takes connections before the guest does.
func waitBanner(ctx context.Context, address string) (string, error) {
	for {
		banner := make([]byte, 32)
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			n, readErr := conn.Read(banner)
			_ = conn.Close()
			if strings.HasPrefix(string(banner[:n]), "SSH-") {
				return string(banner[:n]), nil
			}
			err = readErr
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for SSH: %w: %w", context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// ask runs a command on the server.
func ask(address string, key ssh.Signer, line string) (string, error) {
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: time.Minute,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a machine of our own, on loopback
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer func() { _ = session.Close() }()
	out, err := session.CombinedOutput(line)
	return string(out), err
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

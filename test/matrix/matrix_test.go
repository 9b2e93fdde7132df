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

	"rehost/test/boot"
	"rehost/test/image"
	"rehost/test/workshop"
)

const (
	// bootDeadline is many times what a boot takes on two idle processors.
	bootDeadline = 8 * time.Minute
	// quiet is how long nothing must answer on a control that has come up.
	quiet = 20 * time.Second
)

// TestMatrix converts each server and boots it from NVMe on another card with another address, next to its control.
// REHOST_MATRIX is a regular expression for the names of the combinations; without it, the short ones are converted and
// booted, and neither killed nor undone.
func TestMatrix(t *testing.T) {
	want := os.Getenv("REHOST_MATRIX")
	if os.Geteuid() != 0 {
		t.Skip("not root: the disks need loop devices and mounts")
	}
	chosen := regexp.MustCompile(want)
	progress := func(s string) { t.Log(s) }
	archive, err := tree(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	appliance, err := workshop.Appliance(t.Context(), t.TempDir(), "rehost/cmd/rehost-convert")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range combinations {
		if (want == "" && c.short) || (want != "" && chosen.MatchString(c.name)) {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel() // a control waits for most of its time
				tryCombination(t, c, archive, appliance, want != "")
			})
		}
	}
}

func tryCombination(t *testing.T, c combination, archive, appliance string, long bool) {
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
	disks, err := makeDisks(t.Context(), c, archive, dir, string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d disk(s) took %s", len(disks), time.Since(start).Round(time.Second))
	var converted []string
	for i, disk := range disks {
		converted = append(converted, filepath.Join(dir, fmt.Sprintf("converted%d.raw", i)))
		if err := image.Copy(t.Context(), disk, converted[i]); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { control(t, c, disks) })
	wg.Go(func() {
		if convert(t, conversion{appliance: appliance, disks: converted}, long) {
			c.checkFilesystem(t, converted[0])
			booted(t, c, converted, key)
		}
	})
	wg.Wait()
}

// control boots the disks as they were, on the machine that the converted ones get.
func control(t *testing.T, c combination, disks []string) {
	t.Helper()
	start, address := time.Now(), boot.FreeAddress(t)
	err := machine(t.Context(), c, disks, address, func(ctx context.Context, m *boot.Machine) error {
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

func machine(ctx context.Context, c combination, disks []string, address string, watch func(context.Context, *boot.Machine) error) error {
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	return boot.Run(ctx, boot.Options{
		Disk: disks[0], More: disks[1:], MAC: otherMAC, UEFI: c.table == "uefi", Forward: []boot.Forward{{Host: address, Guest: ":22"}},
	}, watch)
}

// state asks a server how it is: its target, what failed, the disks below its root, and its card.
const state = `systemctl start --quiet multi-user.target && systemctl is-active multi-user.target
systemctl list-units --failed --plain --no-legend
findmnt -no SOURCE / | sed 's/[[].*//' | xargs lsblk -nsro NAME,TYPE
ls -d /sys/bus/pci/drivers/e1000e/0*`

// booted boots the converted disks and asks over SSH how the server is.
func booted(t *testing.T, c combination, disks []string, key ssh.Signer) {
	t.Helper()
	start, address := time.Now(), boot.FreeAddress(t)
	err := machine(t.Context(), c, disks, address, func(ctx context.Context, m *boot.Machine) error {
		if _, err := waitBanner(ctx, address); err != nil {
			console := m.Console()
			return fmt.Errorf("%w; the console ends with:\n%s", err, console[max(0, len(console)-3000):])
		}
		t.Logf("answers SSH after %s", time.Since(start).Round(time.Second))
		said, err := ask(address, key, state)
		if err != nil {
			return err
		}
		t.Logf("it says:\n%s", said)
		if !strings.HasPrefix(said, "active\n") || strings.Contains(said, ".service") || !strings.Contains(said, "0000:00:03.0") {
			return errors.New("that is not a server in order, on an e1000e")
		}
		for i := range disks {
			if !strings.Contains(said, fmt.Sprintf("nvme%dn1 disk", i)) {
				return fmt.Errorf("disk %d is not below its root", i)
			}
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

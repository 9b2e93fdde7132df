package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rehost/test/image"
)

// bootDeadline is several times what a boot takes on an idle machine: an emulated
// one shares its processors with all the other tests.
const bootDeadline = 5 * time.Minute

// sourceImage returns the cached image, and builds it if need be.
func sourceImage(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: the source image needs loop devices and mounts")
	}
	img, err := image.Build(t.Context(), image.Options{Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// The source is a server that works where it is: on virtio, with its static
// address and no serial console. So whatever fails after a migration was not
// broken before it.
func TestSourceServesOnVirtio(t *testing.T) {
	img := sourceImage(t)
	t.Parallel()
	host := FreeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootDeadline)
	defer cancel()
	start := time.Now()
	err := Run(ctx, Options{
		Disk: img, Bus: BusVirtio, NIC: NICVirtio, MAC: image.MAC,
		Forward: []Forward{{Host: host, Guest: image.Address + ":80"}},
	}, func(ctx context.Context, _ *Machine) error {
		page, err := waitPage(ctx, "http://"+host+"/")
		if err == nil && !strings.Contains(page, image.Sentence) {
			err = fmt.Errorf("the page is another one:\n%s", page)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("served its page after %s", time.Since(start).Round(time.Second))
}

// The control of every check that a converted disk boots: the same disk without
// conversion does not. To tell "does not boot" from "boots in silence", a copy gets
// a serial console and nothing else; it logs in on virtio and finds no root on NVMe.
func TestUnconvertedDiskDoesNotBootFromNVMe(t *testing.T) {
	img := sourceImage(t)
	t.Parallel()
	spoken := filepath.Join(t.TempDir(), "spoken.raw")
	if err := image.Copy(t.Context(), img, spoken); err != nil {
		t.Fatal(err)
	}
	giveSerialConsole(t, spoken)
	var (
		login  = regexp.MustCompile(`ledger login:`)
		noRoot = regexp.MustCompile(`ALERT!.*does not exist\.\s+Dropping to a shell`)
		either = regexp.MustCompile(login.String() + "|" + noRoot.String())
	)
	ctx, cancel := context.WithTimeout(t.Context(), bootDeadline)
	defer cancel()
	var wg sync.WaitGroup
	for bus, want := range map[Bus]*regexp.Regexp{BusVirtio: login, BusNVMe: noRoot} {
		wg.Go(func() {
			start := time.Now()
			err := Run(ctx, Options{Disk: spoken, Bus: bus, MAC: image.MAC}, func(ctx context.Context, m *Machine) error {
				found, err := m.Wait(ctx, either)
				if err == nil && bus == BusVirtio && !strings.Contains(m.Console(), "Activated swap") {
					t.Error("the server did not find its swap partition")
				}
				if err == nil && !want.MatchString(found) {
					err = fmt.Errorf("the console shows %q, want %q:\n%s", found, want, tail(m.Console(), 30))
				}
				return err
			})
			if err != nil {
				t.Error(bus, err)
				return
			}
			t.Logf("%s: %q after %s", bus, want, time.Since(start).Round(time.Second))
		})
	}
	wg.Wait()
}

// A disk that is no disk ends in an error that says so, within the deadline.
func TestEmptyDiskDoesNotBoot(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := Run(ctx, Options{Disk: disk}, func(ctx context.Context, m *Machine) error {
		_, err := m.Wait(ctx, regexp.MustCompile("login:"))
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline that passed", err)
	}
}

// An emulator that cannot start ends the watch with the emulator's own words.
func TestMissingDisk(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), Options{Disk: "/nonexistent/disk.raw"}, func(ctx context.Context, m *Machine) error {
		_, err := m.Wait(ctx, regexp.MustCompile("login:"))
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/disk.raw") || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("got %v, want QEMU's words", err)
	}
}

// giveSerialConsole lets GRUB start the kernel of the disk with a serial console.
func giveSerialConsole(t *testing.T, disk string) {
	t.Helper()
	src, err := image.Attach(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(src.Root, "boot/grub/grub.cfg")
	data, err := os.ReadFile(path)
	if err == nil {
		spoken := regexp.MustCompile(`(?m)^(\s+linux\s.*) quiet$`).ReplaceAllString(string(data), "$1 console=ttyS0,115200")
		if spoken == string(data) {
			t.Errorf("no kernel line to change in %s", data)
		}
		err = os.WriteFile(path, []byte(spoken), 0o600)
	}
	if err := errors.Join(err, src.Close()); err != nil {
		t.Fatal(err)
	}
}

// waitPage asks for url until it answers 200, and returns the body.
func waitPage(ctx context.Context, url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	for {
		page, err := get(ctx, &client, url)
		if err == nil {
			return page, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %s: %w: %w", url, context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

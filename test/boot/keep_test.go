package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rehost/convert/storage"
	"rehost/protocol"
	"rehost/test/image"
)

// newMAC is none that the source knows.
const newMAC = "02:00:00:00:00:77"

// The source has a static address on a card with a name that VMware's slots give. With the network kept, the
// converted server has that address on a card of another make with another hardware address. The control is the
// same converted server without the rule that gives the card its name.
func TestKeptAddressOnAnotherCard(t *testing.T) {
	img := sourceImage(t)
	t.Parallel()
	dir := t.TempDir()
	kept, control := filepath.Join(dir, "kept.raw"), filepath.Join(dir, "control.raw")
	if err := image.Copy(t.Context(), img, kept); err != nil {
		t.Fatal(err)
	}
	change(t, kept, func(root string) error {
		file := filepath.Join(root, "etc/network/interfaces")
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(strings.ReplaceAll(string(data), "ens3", "ens192")), 0o644)
		}
		return err
	})
	report := storage.Convert(t.Context(), storage.Job{
		Name: "kept", Devices: []storage.Device{{Volume: "vol-1", Boot: true, Path: kept}},
		Settings: protocol.ConversionSettings{Network: "keep"}, Action: protocol.ActionApply,
	}, storage.Options{})
	if !report.OK {
		t.Fatal(report.Problem)
	}
	if err := image.Copy(t.Context(), kept, control); err != nil {
		t.Fatal(err)
	}
	change(t, control, func(root string) error {
		return os.Remove(filepath.Join(root, "etc/udev/rules.d/70-rehost-cards.rules"))
	})
	ctx, cancel := context.WithTimeout(t.Context(), bootDeadline)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := servesItsPage(ctx, t, kept); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		err := Run(ctx, Options{Disk: control, MAC: newMAC}, func(ctx context.Context, m *Machine) error {
			_, err := m.Wait(ctx, regexp.MustCompile(`Failed to start.*networking`))
			return err
		})
		if err != nil {
			t.Errorf("the control has a network: %v", err)
		}
	})
	wg.Wait()
}

func servesItsPage(ctx context.Context, t *testing.T, disk string) error {
	t.Helper()
	host, start := FreeAddress(t), time.Now()
	return Run(ctx, Options{Disk: disk, MAC: newMAC, Forward: []Forward{{Host: host, Guest: image.Address + ":80"}}},
		func(ctx context.Context, m *Machine) error {
			page, err := waitPage(ctx, "http://"+host+"/")
			if err != nil {
				return fmt.Errorf("%w; the console:\n%s", err, tail(m.Console(), 60))
			}
			if !strings.Contains(page, image.Sentence) || !strings.Contains(m.Console(), "ens192: renamed from eth0") {
				return fmt.Errorf("the page is another one, or the card was not renamed:\n%s\n%s", page, tail(m.Console(), 400))
			}
			t.Logf("served its page after %s", time.Since(start).Round(time.Second))
			return nil
		})
}

// change changes the files of a disk.
func change(t *testing.T, disk string, edit func(root string) error) {
	t.Helper()
	src, err := image.Attach(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(edit(src.Root), src.Close()); err != nil {
		t.Fatal(err)
	}
}

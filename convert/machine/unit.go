package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"rehost/convert/storage"
	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/internal/uptime"
	"rehost/protocol"
)

// RunUnit does the same on an instance with a system of its own, as a unit of systemd: network, drivers and tools
// are the system's. It does not switch the power off: the unit does, whatever the outcome.
func RunUnit(ctx context.Context, console io.Writer) error {
	if err := CheckTools(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hardLimit)
	defer cancel()
	say := sayTo(console)
	say("starting")
	report := unitWork(ctx, say)
	report.Seconds = uptime.Now().Seconds()
	printReport(console, report, say)
	return nil
}

func unitWork(ctx context.Context, say func(string)) protocol.ConversionReport {
	wait, cancel := context.WithTimeout(ctx, metadataWait)
	defer cancel()
	data, err := userData(wait)
	if err != nil {
		return failed("", fmt.Errorf("read the order: %w", err))
	}
	order, err := decodeOrder(data)
	if err != nil {
		return failed("", err)
	}
	load := func(name string) error {
		_, err := command.Run(ctx, "modprobe", "-q", name)
		return err
	}
	return carryOut(ctx, order, storage.Options{Progress: say, Load: load})
}

// carryOut converts what an order names.
func carryOut(ctx context.Context, order protocol.ConversionOrder, opt storage.Options) protocol.ConversionReport {
	opt.Progress(fmt.Sprintf("job %s: server %s, %s, %d volumes", order.Job, order.Server, order.Purpose, len(order.Disks)))
	devices, err := waitVolumes(ctx, order.Disks)
	if err != nil {
		return failed(order.Job, err)
	}
	opt.Progress("volumes are attached")
	return storage.Convert(ctx, storage.Job{Name: order.Job, Server: order.Server, Purpose: order.Purpose, Devices: devices, Settings: order.Options, Action: order.Action}, opt)
}

func decodeOrder(data []byte) (order protocol.ConversionOrder, err error) {
	if err := json.Unmarshal(data, &order); err != nil {
		return order, fmt.Errorf("decode the order: %w", err)
	}
	if len(order.Disks) == 0 {
		return order, fmt.Errorf("the order of job %q names no volume", order.Job)
	}
	return order, nil
}

// CheckTools says which of the programs that a conversion may need are not installed.
func CheckTools() error {
	var lacking []string
	for _, name := range []string{"e2fsck", "xfs_repair", "fsck.fat", "lvm", "mdadm", "cryptsetup", "modprobe"} {
		if _, err := exec.LookPath(name); err != nil {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		return hint.New("programs are not installed: "+strings.Join(lacking, ", "), "apt-get install e2fsprogs xfsprogs dosfstools lvm2 mdadm cryptsetup-bin kmod")
	}
	return nil
}

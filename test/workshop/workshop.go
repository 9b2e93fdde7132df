// Package workshop makes disks that the kernel of a build machine cannot make: with LVM, RAID and LUKS on them.
// It runs a list of commands in a virtual machine of the appliance's kernel and tools. The commands
// are the test's own; no guest is involved.
package workshop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rehost/appliance"
	"rehost/convert/machine"
	"rehost/internal/command"
)

// Step is a command. "copy FROM TO" copies the content of a device.
type Step struct {
	Args  []string
	Stdin string
}

// Do returns a step.
func Do(line string) Step { return Step{Args: strings.Fields(line)} }

// Work is what the machine is given.
type Work struct {
	Drivers []string
	Steps   []Step
}

// Done is the last line of a console on which all went well.
const Done = "workshop: done"

// Run runs the work with the disks as /dev/nvme1n1, /dev/nvme2n1 and so on. dir is for its own files.
func Run(ctx context.Context, dir string, work Work, disks ...string) error {
	image, err := Appliance(ctx, dir, "rehost/test/workshop/cmd")
	if err != nil {
		return err
	}
	order, err := json.Marshal(work)
	if err != nil {
		return err
	}
	console := filepath.Join(dir, "workshop-console")
	escape := strings.NewReplacer(",", ",,").Replace // as QEMU wants it in the value of an option
	args := []string{
		"-accel", "tcg", "-cpu", "max", "-machine", "pc", "-m", "1024", "-nodefaults", "-nic", "none", "-display", "none", "-vga", "std",
		"-no-reboot", "-serial", "file:" + console, "-fw_cfg", "name=" + machine.OrderName + ",file=/dev/stdin",
		"-drive", "if=none,id=boot,format=raw,snapshot=on,file=" + escape(image), "-device", "nvme,drive=boot,serial=appliance,bootindex=1",
	}
	for i, d := range disks {
		id := fmt.Sprintf("disk%d", i)
		args = append(args, "-drive", "if=none,format=raw,cache=unsafe,id="+id+",file="+escape(d), "-device", "nvme,serial="+id+",drive="+id)
	}
	_, err = command.RunIn(ctx, "", order, "qemu-system-x86_64", args...)
	text, readErr := os.ReadFile(console)
	if err == nil && readErr == nil && !strings.Contains(string(text), Done) {
		err = fmt.Errorf("the workshop failed:\n%s", text)
	}
	return errors.Join(err, readErr)
}

// Appliance returns the path of an appliance's image that starts the program of the package, and builds both where need be.
// dir is for the program.
func Appliance(ctx context.Context, dir, pkg string) (string, error) {
	program := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-"))
	build := []string{"CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, pkg}
	if _, err := command.Run(ctx, "env", build...); err != nil {
		return "", err
	}
	return appliance.Build(ctx, appliance.Options{Convert: program})
}

package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rehost/internal/hint"
)

// Debian's UEFI firmware: the code, which all guests share, and the variables as
// they are in a new machine.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	newVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// variablesPath is the instance's own copy of the variables. The firmware and
// the guest write to it; it lives as long as the instance's folder.
func variablesPath(dir string) string { return filepath.Join(dir, "variables.fd") }

// firmware is the part of QEMU's command line for the flash memory of a guest with UEFI.
func firmware(s Spec) []string {
	if !s.UEFI {
		return nil
	}
	var args []string
	for _, f := range []struct {
		node, path string
		readOnly   bool
	}{{"firmware", firmwareCode, true}, {"variables", variablesPath(s.Dir), false}} {
		node, _ := json.Marshal(map[string]any{
			"driver": "raw", "node-name": f.node, "read-only": f.readOnly, "file": map[string]any{"driver": "file", "filename": f.path},
		})
		args = append(args, "-blockdev", string(node))
	}
	return args
}

// ensureFirmware gives a guest with UEFI its variables, at its first start.
func ensureFirmware(s Spec) error {
	if !s.UEFI {
		return nil
	}
	path := variablesPath(s.Dir)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := os.ReadFile(newVariables)
	if err != nil {
		return hint.Wrap(fmt.Errorf("find the UEFI firmware: %w", err), "apt-get install ovmf, or run scripts/install-packages")
	}
	// Not half a file, should we be killed meanwhile.
	if err := os.WriteFile(path+".new", fresh, 0o600); err != nil {
		return fmt.Errorf("make UEFI variables: %w", err)
	}
	return os.Rename(path+".new", path)
}

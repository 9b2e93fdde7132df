package machine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modules are the kernel modules in the machine's own initramfs: a file "list"
// with a line for each (name, file, names it needs) and the module files beside it.
type modules struct {
	dir    string
	known  map[string][]string
	loaded map[string]bool
}

// parameters of modules. With MSI-X some emulated e1000e cards lose the interrupt
// that says that the link is up, and the driver looks for itself only every two seconds.
var parameters = map[string]string{"e1000e": "IntMode=1"}

// diskDriver is loaded in any case: disks may come later.
const diskDriver = "nvme"

// pciDrivers are the drivers of network cards by the start of a PCI device's modalias.
var pciDrivers = []struct{ alias, class, driver string }{
	{"pci:v00008086d", "bc02", "e1000e"},
	{"pci:v00001D0Fd", "bc02", "ena"},
	{"pci:v00001AF4d", "", "virtio_pci"},
	{"pci:v00001AF4d", "bc02", "virtio_net"},
}

// networkDrivers returns the drivers of the network cards that the machine has: each one that is loaded
// for nothing takes an emulated processor a tenth of a second.
func networkDrivers(sys string) []string {
	paths, _ := filepath.Glob(filepath.Join(sys, "bus/pci/devices/*/modalias")) // the pattern is good
	var aliases []string
	for _, p := range paths {
		if text, err := os.ReadFile(p); err == nil {
			aliases = append(aliases, string(text))
		}
	}
	var out []string
	for _, d := range pciDrivers {
		if slices.ContainsFunc(aliases, func(a string) bool { return strings.HasPrefix(a, d.alias) && strings.Contains(a, d.class) }) {
			out = append(out, d.driver)
		}
	}
	return out
}

func readModules(dir string) (*modules, error) {
	f, err := os.Open(filepath.Join(dir, "list"))
	if err != nil {
		return nil, fmt.Errorf("read the list of drivers: %w", err)
	}
	defer func() { _ = f.Close() }()
	m := &modules{dir: dir, known: map[string][]string{}, loaded: map[string]bool{}}
	s := bufio.NewScanner(f)
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) >= 2 {
			m.known[fields[0]] = fields[1:]
		}
	}
	return m, s.Err()
}

// load loads a module after those that it needs. A name that is not in the list
// is taken to be built into the kernel.
func (m *modules) load(name string) error {
	entry, ok := m.known[name]
	if !ok || m.loaded[name] {
		return nil
	}
	m.loaded[name] = true
	for _, need := range entry[1:] {
		if err := m.load(need); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(m.dir, entry[0]))
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), parameters[name], 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}

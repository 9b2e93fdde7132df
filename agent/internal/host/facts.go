package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts describe a source server.
type Facts struct {
	Hostname    string
	Kernel      string // release, as uname -r shows it
	Arch        string // as Go names it
	BootID      string // changes with each boot
	Cores       int
	MemoryBytes int64
	OS          string // pretty name
	OSID        string // such as debian
	OSVersion   string // such as 12
	BootMode    string // bios or uefi
	Address     string // IPv4, of the interface that the default route leads through; empty: there is none
}

// ReadFacts reads the facts of this host.
func ReadFacts() (Facts, error) {
	f := Facts{Arch: runtime.GOARCH, Cores: runtime.NumCPU(), BootMode: "bios"}
	var err error
	if f.Hostname, err = os.Hostname(); err != nil {
		return f, fmt.Errorf("read the host name: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return f, fmt.Errorf("read the kernel's release: %w", err)
	}
	f.Kernel = unix.ByteSliceToString(uts.Release[:])
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return f, fmt.Errorf("read the boot id: %w", err)
	}
	f.BootID = strings.TrimSpace(string(boot))
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return f, fmt.Errorf("read the memory size: %w", err)
	}
	f.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		f.BootMode = "uefi"
	}
	f.Address = routed()
	release, err := os.ReadFile("/etc/os-release")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("read the system's name: %w", err)
	}
	f.OS, f.OSID, f.OSVersion = parseRelease(string(release))
	return f, nil
}

// routed returns the address from which this host reaches others. Connecting a datagram socket sends nothing.
func routed() string {
	conn, err := net.Dial("udp4", "192.0.2.1:9") //nolint:noctx // it only looks at the routes
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	if at, ok := conn.LocalAddr().(*net.UDPAddr); ok && !at.IP.IsLoopback() {
		return at.IP.String()
	}
	return ""
}

// parseRelease reads an os-release file.
func parseRelease(text string) (name, id, version string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			name = value
		case "ID":
			id = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, id, version
}

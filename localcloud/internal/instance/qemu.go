package instance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"rehost/localcloud/internal/state"
)

// The guest's network. Its prefix holds EC2's metadata address, because QEMU
// answers for an extra address only inside the network that it emulates.
const (
	guestNetwork = "net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15"
	guestAddress = "169.254.0.15"
	metadataPort = "169.254.169.254:80"
)

// arguments returns QEMU's command line for a guest. The machine is an i440FX,
// like EC2's: its one PCI bus takes disks while the guest runs.
func (h *Host) arguments(s Spec) []string {
	// With QEMU's own size of the buffer for translated code a Debian boot takes a sixth more of the host's processor.
	accel, cpu := "tcg,thread=multi,tb-size=512", "max"
	if h.KVM {
		accel, cpu = "kvm", "host"
	}
	machine, smbios := "pc,usb=off", "type=0,vendor=Amazon EC2"
	if s.UEFI {
		machine += ",pflash0=firmware,pflash1=variables"
		smbios += ",uefi=on"
	}
	args := []string{
		"-name", s.ID, "-nodefaults", "-no-user-config",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-smp", fmt.Sprint(s.VCPUs), "-m", fmt.Sprintf("%dM", s.MemoryMiB),
		"-display", "none", "-vga", "std", "-rtc", "base=utc",
		"-smbios", smbios,
		"-smbios", "type=1,manufacturer=Amazon EC2,product=" + s.Type + ",serial=" + machineUUID(s.ID) + ",uuid=" + machineUUID(s.ID),
		"-smbios", "type=3,asset=" + s.ID,
		"-chardev", "file,id=console,path=" + escape(ConsolePath(s.Dir)) + ",append=on", "-serial", "chardev:console",
		// Relative, because a socket's path must be short and a data folder's need not be.
		"-qmp", "unix:qmp.sock,server=on,wait=off",
	}
	for i, n := range s.Interfaces {
		// Without the boot ROM, so that no guest waits for a network boot.
		args = append(args, "-netdev", h.network(s, i), "-device", fmt.Sprintf("e1000e,netdev=net%d,mac=%s,romfile=", i, n.MAC))
	}
	args = append(args, firmware(s)...)
	for i, d := range s.Disks {
		node, _ := json.Marshal(blockNode(d))
		device := fmt.Sprintf("nvme,drive=%s,id=%s,serial=%s", nodeName(d.VolumeID), deviceName(d.VolumeID), state.NVMeSerial(d.VolumeID))
		if i == 0 {
			device += ",bootindex=1"
		}
		args = append(args, "-blockdev", string(node), "-device", device)
	}
	return append(args, h.extra...)
}

// network is the host's side of an interface.
func (h *Host) network(s Spec, index int) string {
	n := s.Interfaces[index]
	var b strings.Builder
	block, address := guestSide(index)
	fmt.Fprintf(&b, "user,id=net%d,%s", index, block)
	if !n.Outbound {
		// A test launch of a production server must not reach production.
		b.WriteString(",restrict=on")
	}
	if len(h.Connect) > 0 && index == 0 {
		command := make([]string, 0, len(h.Connect)+1)
		for _, word := range append(slices.Clone(h.Connect), s.Metadata) {
			command = append(command, quote(word))
		}
		b.WriteString(",guestfwd=tcp:" + metadataPort + "-cmd:" + escape(strings.Join(command, " ")))
	}
	for _, p := range n.Ports {
		fmt.Fprintf(&b, ",hostfwd=%s", forward(n.Address, address, p))
	}
	return b.String()
}

// guestSide is the network that a guest sees at an interface, and the address that it gets there.
func guestSide(index int) (network, address string) {
	if index == 0 {
		return guestNetwork, guestAddress
	}
	block := fmt.Sprintf("10.77.%d.", index)
	return "net=" + block + "0/24,dhcpstart=" + block + "15", block + "15"
}

func forward(outside, inside string, port int) string {
	return fmt.Sprintf("tcp:%s:%d-%s:%d", outside, port, inside, port)
}

// blockNode is the block layer's side of a disk. The host's page cache is the
// write-back cache that the guest's flushes empty.
func blockNode(d Disk) map[string]any {
	return map[string]any{
		"driver": "raw", "node-name": nodeName(d.VolumeID), "discard": "unmap",
		"file": map[string]any{"driver": "file", "filename": d.Path, "aio": "threads", "discard": "unmap"},
	}
}

func nodeName(volumeID string) string   { return "n-" + state.NVMeSerial(volumeID) }
func deviceName(volumeID string) string { return "d-" + state.NVMeSerial(volumeID) }

// machineUUID is stable for an instance and begins with ec2, by which programs in the guest know EC2.
func machineUUID(id string) string {
	sum := sha256.Sum256([]byte(id))
	h := fmt.Sprintf("%x", sum)
	return "ec2" + h[:5] + "-" + h[5:9] + "-4" + h[9:12] + "-8" + h[12:15] + "-" + h[15:27]
}

// escape protects commas in a value of a QEMU option.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// quote protects a word from the shell-like splitting of a guestfwd command.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

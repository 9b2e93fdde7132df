package convert

import (
	"slices"
	"strings"
	"testing"

	"rehost/protocol"
)

func TestTimeoutIsWhatEachDriverTakes(t *testing.T) {
	byteKernel, uintKernel := Kernel{Version: "3.10.0-1.el7", Timeout: "nvme_core.io_timeout=255"}, Kernel{Version: "5.14.0-1.el9", Timeout: "nvme_core.io_timeout=4294967295"}
	p := &planner{facts: Facts{Kernels: []Kernel{byteKernel, uintKernel}}}
	for version, want := range map[string]string{
		byteKernel.Version: byteKernel.Timeout, uintKernel.Version: uintKernel.Timeout, "": byteKernel.Timeout, "gone": byteKernel.Timeout,
	} {
		if got := p.timeouts(version); !slices.Equal(got, []string{want}) {
			t.Errorf("kernel %q: got %v, want %s", version, got, want)
		}
	}
	for version, want := range map[string]string{
		"3.16.0-4-amd64": "nvme.io_timeout=255", "4.9.0-19-amd64": "nvme_core.io_timeout=255", "4.19.0-1": "nvme_core.io_timeout=" + ioTimeout, "odd": "nvme_core.io_timeout=" + ioTimeout,
	} {
		if got := (Kernel{Version: version}).timeout(); got != want {
			t.Errorf("%s: got %s, want %s", version, got, want)
		}
	}
}

func TestUnfitArguments(t *testing.T) {
	p := &planner{facts: stackedFacts(), set: protocol.ConversionSettings{Network: "keep"}}
	in := "ro pci=nomsi clocksource=xen modprobe.blacklist=nouveau,nvme rd.driver.blacklist=ena rd.lvm.lv=vg-a/lv-root rd.lvm.lv=gone/swap clocksource=tsc"
	want := "ro modprobe.blacklist=nouveau rd.lvm.lv=vg-a/lv-root clocksource=tsc"
	got := strings.Join(p.commandLine(strings.Fields(in), ""), " ")
	if got, _, _ := strings.Cut(got, " console="); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAddressesForTheInitramfs: those of the old network go, also where a disk's key comes over the network.
func TestAddressesForTheInitramfs(t *testing.T) {
	const static = "ip=10.20.1.19::10.20.1.1:255.255.255.0:web1:ens192:none"
	for _, tt := range []struct{ network, in, want string }{
		{"dhcp", "a " + static + " nameserver=10.20.0.53 rd.route=10.0.0.0/8:10.20.1.1 b", "a b"},
		{"dhcp", "rd.neednet=1 " + static, "rd.neednet=1 ip=dhcp"},
		{"dhcp", "rd.neednet=1 ip=ens192:dhcp", "rd.neednet=1 ip=dhcp"},
		{"dhcp", "ip=dhcp ip=off", "ip=dhcp ip=off"},
		{"keep", static + " nameserver=10.20.0.53", static + " nameserver=10.20.0.53"},
	} {
		p := &planner{facts: Facts{Disks: testDisks}, set: protocol.ConversionSettings{Network: tt.network}}
		got, _, _ := strings.Cut(strings.Join(p.commandLine(strings.Fields(tt.in), ""), " "), " console=")
		if got != tt.want {
			t.Errorf("%s, %s: got %s, want %s", tt.network, tt.in, got, tt.want)
		}
	}
}

package instance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/command"
	"rehost/internal/cpio"
	"rehost/localcloud/internal/imds"
	"rehost/localcloud/internal/state"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "imds connect" {
		if err := imds.Connect(os.Args[2], os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// firstProcess is what the guest runs: it asks the metadata service, lists its
// disks as they come and go, serves port 80, and powers off when it is asked to.
const firstProcess = `#!/busybox sh
B=/busybox
$B mkdir -p /proc /sys /dev
$B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev
for m in $($B cat /order); do $B insmod /$m; done
$B ip link set eth0 up
$B ip addr add 169.254.0.15/16 dev eth0
$B ip link set eth1 up
$B ip addr add 10.77.1.15/24 dev eth1
until [ "$($B cat /sys/class/net/eth0/carrier)" = 1 ]; do $B usleep 50000; done
$B echo 'PUT /latest/api/token HTTP/1.0' >/q; $B echo 'X-aws-ec2-metadata-token-ttl-seconds: 60' >>/q; $B echo >>/q
ask() { $B nc -w 10 169.254.169.254 80 </q; }
token=$(ask | $B tail -n 1)
$B echo 'GET /latest/user-data HTTP/1.0' >/q; $B echo >>/q
$B echo "without a token: $(ask | $B head -n 1)"
$B echo 'GET /latest/user-data HTTP/1.0' >/q; $B echo "X-aws-ec2-metadata-token: $token" >>/q; $B echo >>/q
$B echo "user data: $(ask | $B tail -n 1)"
$B nc -w 3 169.254.0.2 "$($B sed 's/.*port=\([0-9]*\).*/\1/' /proc/cmdline)" </dev/null && $B echo "reached the host"
$B nc -ll -p 80 -e $B echo "hello from the guest" &
$B echo "guest is up"
while :; do $B echo "disks: $($B cat /sys/class/nvme/*/serial | $B tr -d '\n')"; $B usleep 200000; done
`

// kernelPackage returns the folder of an unpacked Debian kernel package, taken
// from where the appliance's build keeps it.
func kernelPackage(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob(filepath.Join(cache, "rehost", "*", "linux-image-[0-9]*.deb"))
	if len(found) == 0 {
		t.Skip("no kernel package in " + cache + "/rehost: building the appliance downloads it")
	}
	dir := t.TempDir()
	if _, err := command.Run(t.Context(), "dpkg-deb", "-x", found[0], dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// linux returns the command line that boots a kernel with firstProcess.
func linux(t *testing.T, root, hostPort string) []string {
	t.Helper()
	kernels, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(kernels) != 1 {
		t.Fatalf("kernels: %v", kernels)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	if _, err := command.Run(t.Context(), "depmod", "-b", root, version); err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w := cpio.NewWriter(&image)
	add := func(name string, data []byte) {
		if err := w.Write(name, 0o100755, data); err != nil {
			t.Fatal(err)
		}
	}
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	add("busybox", shell)
	add("init", []byte(firstProcess))
	var order []string
	for _, name := range []string{"crct10dif_generic", "crc64-rocksoft_generic", "nvme", "e1000e"} {
		list, err := command.Run(t.Context(), "modprobe", "-d", root, "-S", version, "--show-depends", name)
		if err != nil {
			continue // built in
		}
		for line := range strings.Lines(string(list)) {
			path, ok := strings.CutPrefix(strings.TrimSpace(line), "insmod ")
			base := filepath.Base(path)
			if !ok || strings.Contains(strings.Join(order, " ")+" ", base+" ") {
				continue
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			add(base, raw)
			order = append(order, base)
		}
	}
	add("order", []byte(strings.Join(order, "\n")))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "initramfs")
	if err := os.WriteFile(path, image.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-kernel", kernels[0], "-initrd", path, "-append", "console=ttyS0 quiet panic=-1 port=" + hostPort}
}

// A real kernel sees the disks, those that come later too, reaches its metadata
// service and nothing else, and is reached on its open ports.
func TestLinuxGuest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: listens on low ports")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	svc := httptest.NewServer(imds.New(func() (imds.Document, bool) {
		return imds.Document{UserData: []byte("a secret for one guest\n")}, true
	}))
	defer svc.Close()
	_, port, err := net.SplitHostPort(svc.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk := func(id string) Disk {
		path := filepath.Join(dir, id+".raw")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<20)); err != nil {
			t.Fatal(err)
		}
		return Disk{VolumeID: id, Path: path}
	}
	first, later := disk("vol-00000000000000001"), disk("vol-00000000000000002")
	h := &Host{QEMU: qemu, Connect: []string{os.Args[0], "imds connect"}, Log: hclog.NewNullLogger(), extra: linux(t, kernelPackage(t), port)}
	s := Spec{
		ID: "i-linux", Kind: state.Guest, Dir: dir, Metadata: svc.Listener.Addr().String(),
		Interfaces: []Interface{
			{Address: "127.77.250.17", Ports: []int{80}, MAC: "02:77:00:00:00:01"}, {Address: "127.77.250.18", Ports: []int{80}, MAC: "02:77:00:00:00:02"},
		}, Type: "t3.nano", VCPUs: 2, MemoryMiB: 512, Disks: []Disk{first},
	}
	r, err := h.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		r.Kill()
		_ = r.Wait(context.Background())
	}()
	says := func(text string) {
		t.Helper()
		for end := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			raw, _ := os.ReadFile(ConsolePath(dir))
			if bytes.Contains(raw, []byte(text)) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the guest did not say %q:\n%s", text, raw)
			}
		}
	}
	says("without a token: HTTP/1.0 401")
	says("user data: a secret for one guest")
	says("guest is up")
	says("disks: vol00000000000000001")
	if raw, _ := os.ReadFile(ConsolePath(dir)); bytes.Contains(raw, []byte("reached the host")) {
		t.Error("the guest reached a port of the host")
	}
	if err := r.Attach(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	says("disks: vol00000000000000001vol00000000000000002")
	if err := r.Detach(t.Context(), later.VolumeID); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"127.77.250.17:80", "127.77.250.18:80"} {
		if got := fetch(t, address); got != "hello from the guest\n" {
			t.Errorf("%s answers %q", address, got)
		}
	}
	if err := r.ClosePort(t.Context(), 0, 80); err != nil {
		t.Error(err)
	}
	for _, closed := range []string{"127.77.250.17:80", "127.77.250.17:81"} {
		if conn, err := net.Dial("tcp", closed); err == nil {
			_ = conn.Close()
			t.Errorf("%s is closed and answers", closed)
		}
	}
}

// fetch returns what a port says.
func fetch(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

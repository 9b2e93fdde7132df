// Package guest replicates a server that is a machine of its own: an emulated one with Debian's kernel, a partitioned
// virtio disk, and the agent under systemd. The other tests share their kernel with the source.
package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/boot"
	"rehost/test/image"
	"rehost/test/migration"
)

const (
	repo = "../.."
	// busInGuest is where QEMU's network shows the bus; the certificate is for the address on which the guest forwards it.
	busInGuest = "10.0.2.100:4222"
)

const agentConfig = `server = "%s"
disks  = ["/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdd"]

bus {
  servers = ["tls://127.0.0.1:4222"]
  ca_file = "/etc/rehost/ca.pem"
}
`

const busSocket = `[Socket]
ListenStream=127.0.0.1:4222

[Install]
WantedBy=sockets.target
`

const busService = `[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd ` + busInGuest + `
`

// Filesystems that do not lie on a disk in one piece: xfs on LVM, ext4 on an md RAID1. The kernel that the other tests run
// on has neither. They are there before the agent is.
const stackScript = `#!/bin/sh
set -e
if ! vgs data; then
	pvcreate /dev/vdb && vgcreate data /dev/vdb && lvcreate -y -n shop -l 100%FREE data && mkfs.xfs -q /dev/data/shop
	mdadm --create /dev/md/mirror --run --level=1 --raid-devices=2 /dev/vdc /dev/vdd && mkfs.ext4 -q -L mirror /dev/md/mirror
fi
vgchange -ay data
mdadm --assemble --scan || true
mkdir -p /srv/lvm /srv/md
mount /dev/data/shop /srv/lvm
mount /dev/md/*mirror* /srv/md
`

const stackService = `[Unit]
Before=rehost-agent.service
After=systemd-udev-settle.service
Wants=systemd-udev-settle.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/stack

[Install]
RequiredBy=rehost-agent.service
`

// stackBytes is the size of each further disk.
const stackBytes = 400 << 20

// An agent that is killed goes on with its marks; a reboot leads to a comparison that sends only what differs; and a point
// has every file as it was on the source.
func TestAMachineOfItsOwnIsReplicated(t *testing.T) {
	if os.Getenv("REHOST_GUEST") == "" {
		t.Skip("takes ten minutes: make guest")
	}
	m := start(t)
	disk := filepath.Join(m.Dir(), "guest.raw")
	key := install(t, m, disk)
	sshAt := freeAddress(t)
	err := boot.Run(t.Context(), boot.Options{
		Disk: disk, More: blank(t, 3), Bus: boot.BusVirtio, NIC: boot.NICVirtio, MAC: image.MAC, MemoryMiB: 1024, Reboots: true,
		Forward: []boot.Forward{{Host: sshAt, Guest: image.Address + ":22"}},
		Reach:   []boot.Forward{{Host: m.Bus(), Guest: busInGuest}},
	}, func(ctx context.Context, _ *boot.Machine) error {
		g := &machine{address: sshAt, key: key}
		t.Log(g.run(ctx, t, "uname -a; systemctl is-system-running --wait; systemctl --failed --no-legend; lsblk; findmnt -t xfs,ext4"))
		defer func() {
			t.Log(g.run(context.WithoutCancel(ctx), t, "journalctl -u rehost-agent -o cat --no-pager | tail -n 60"))
		}()
		reaches(ctx, t, m, protocol.ReplicationContinuous)
		compare(ctx, t, m, g)

		g.run(ctx, t, "systemctl kill -s KILL rehost-agent; sleep 1; dd if=/dev/urandom of=/root/after-the-kill bs=1M count=8; sync")
		reaches(ctx, t, m, protocol.ReplicationContinuous)
		if d := status(ctx, t, m).Agent.Disks[0]; d.Rescanned != 0 {
			t.Errorf("%d bytes were compared after the kill, and not known from the marks", d.Rescanned)
		}
		compare(ctx, t, m, g)

		g.run(ctx, t, "systemctl reboot")
		until(ctx, t, "a rescan", func() (bool, string) {
			s := status(ctx, t, m)
			return s.Replication == protocol.ReplicationRescan, string(s.Replication)
		})
		reaches(ctx, t, m, protocol.ReplicationContinuous)
		if d := status(ctx, t, m).Agent.Disks[0]; d.Rescanned == 0 {
			t.Errorf("nothing was compared after the reboot: %+v", d)
		}
		compare(ctx, t, m, g)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start brings up the cloud and the controller, with the demo's server configured.
func start(t *testing.T) *migration.Migration {
	t.Helper()
	m, err := migration.New(t.Context(), migration.Config{
		Repo: repo, Bin: filepath.Join(repo, "bin"), Dir: filepath.Join(t.TempDir(), "work"), Out: t.Output(),
		Notice: func(text string) { t.Log(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && m.Controller != nil {
			t.Log(m.Controller.Tail(40))
		}
		if err := m.Close(); err != nil {
			t.Errorf("take everything down: %v", err)
		}
	})
	for _, f := range []func(context.Context) error{m.Images, m.StartCloud, m.Apply} {
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// install makes the guest's disk: the source's image with an agent that has a token, the way to the bus, and a key for root.
func install(t *testing.T, m *migration.Migration, disk string) ssh.Signer {
	t.Helper()
	if err := image.Copy(t.Context(), m.Image(), disk); err != nil {
		t.Fatal(err)
	}
	source, err := image.Attach(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := source.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	token := t.TempDir()
	if err := m.Command(t.Context(), "server", "token", migration.Server, "--out", token); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(token, "guest.hcl")
	put(t, config, fmt.Sprintf(agentConfig, migration.Server))
	if err := image.InstallAgent(source.Root, filepath.Join(m.Bin(), "rehost-agent"), filepath.Join(repo, "systemd", "rehost-agent.service"), config); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(token, name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(source.Root, "etc/rehost", name), string(text))
	}
	units := filepath.Join(source.Root, "etc/systemd/system")
	put(t, filepath.Join(units, "bus.socket"), busSocket)
	put(t, filepath.Join(units, "bus.service"), busService)
	wants := filepath.Join(units, "sockets.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/systemd/system/bus.socket", filepath.Join(wants, "bus.socket")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(units, "stack.service"), stackService)
	put(t, filepath.Join(source.Root, "usr/local/sbin/stack"), stackScript)
	if err := os.Chmod(filepath.Join(source.Root, "usr/local/sbin/stack"), 0o755); err != nil {
		t.Fatal(err)
	}
	requires := filepath.Join(units, "rehost-agent.service.requires")
	if err := errors.Join(os.MkdirAll(requires, 0o755), os.Symlink("/etc/systemd/system/stack.service", filepath.Join(requires, "stack.service"))); err != nil {
		t.Fatal(err)
	}
	addPackages(t, source.Root, "lvm2", "mdadm", "xfsprogs")
	signer, line := newKey(t)
	put(t, filepath.Join(source.Root, "root/.ssh/authorized_keys"), line)
	return signer
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// compare takes a point and looks at its snapshot: every file that nothing changes meanwhile is what it is on the source.
func compare(ctx context.Context, t *testing.T, m *migration.Migration, g *machine) {
	t.Helper()
	// Nothing writes this out but the freeze.
	for _, folder := range []string{"/srv/lvm", "/srv/md"} {
		g.run(ctx, t, "dd if=/dev/urandom of="+folder+"/$(date +%s) bs=1M count=30")
	}
	stacked := map[string]string{}
	for _, folder := range []string{"/srv/lvm", "/srv/md"} {
		stacked[folder] = g.run(ctx, t, "cd "+folder+" && sha256sum *[0-9]")
	}
	const list = `cd / && find boot etc root usr var/lib/dpkg var/www -xdev -type f -print0 | sort -z | xargs -0 sha256sum | grep -v -e etc/mtab -e etc/rehost -e etc/network/run`
	sums := g.run(ctx, t, list)
	old := ""
	if s := status(ctx, t, m); s.LastPoint != nil {
		old = s.LastPoint.ID
	}
	until(ctx, t, "a point", func() (bool, string) {
		// It is refused while a slow machine is behind.
		err := m.Command(ctx, "point", "take", migration.Server, "--wait")
		return err == nil, fmt.Sprint(err)
	})
	var point protocol.Point
	until(ctx, t, "a point with its snapshot", func() (bool, string) {
		s := status(ctx, t, m)
		if s.LastPoint == nil || s.LastPoint.ID == old || len(s.LastPoint.Snapshots) == 0 {
			return false, s.Waiting
		}
		point = *s.LastPoint
		return true, fmt.Sprintf("%s, %s, frozen for %s", point.ID, point.Grade, point.Frozen)
	})
	if point.Grade != protocol.GradeFilesystem {
		t.Errorf("the point's grade is %s", point.Grade)
	}
	copied := filepath.Join(m.Dir(), "point.raw")
	if _, err := command.Run(ctx, "cp", "--reflink=auto", "--sparse=always", m.Snapshot(point.Snapshots[0]), copied); err != nil {
		t.Fatal(err)
	}
	replica, err := image.Attach(ctx, copied) // the mount replays the journal
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := replica.Close(); err != nil {
			t.Error(err)
		}
	}()
	out, err := command.RunIn(ctx, replica.Root, []byte(sums), "sha256sum", "--check", "--quiet", "--strict")
	n := strings.Count(sums, "\n")
	if err != nil || n < 5000 {
		t.Errorf("%d files compared: %v\n%s", n, err, out)
	}
	t.Logf("%d files of the point are what they are on the source", n)
	compareStack(ctx, t, m, g, point, stacked)
}

func status(ctx context.Context, t *testing.T, m *migration.Migration) protocol.ServerStatus {
	t.Helper()
	s, err := m.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reaches waits for a state, and for a report of an agent that is alive.
func reaches(ctx context.Context, t *testing.T, m *migration.Migration, want protocol.Replication) {
	t.Helper()
	since := time.Now()
	until(ctx, t, string(want), func() (bool, string) {
		s := status(ctx, t, m)
		seen := fmt.Sprintf("%s %s", s.Replication, s.Waiting)
		if s.Agent != nil {
			seen += fmt.Sprintf(" %s %+v", s.Agent.Tier, s.Agent.Disks)
		}
		return s.Replication == want && s.LastSeen.After(since), seen
	})
}

// until polls until ok.
func until(ctx context.Context, t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	const limit = 8 * time.Minute
	began, said := time.Now(), time.Now()
	for {
		good, seen := ok()
		if good {
			t.Logf("%s after %s: %s", what, time.Since(began).Round(time.Second), seen)
			return
		}
		if time.Since(began) > limit || ctx.Err() != nil {
			t.Fatalf("%s: not within %s; last seen: %s", what, limit, seen)
		}
		if time.Since(said) > 30*time.Second {
			said = time.Now()
			t.Logf("waiting for %s: %s", what, seen)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it only found a port
	return l.Addr().String()
}

// machine runs commands in the guest.
type machine struct {
	address string
	key     ssh.Signer
}

// run returns what a command printed; it waits for a guest that boots.
func (g *machine) run(ctx context.Context, t *testing.T, script string) string {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		client, err := g.dial()
		if err == nil {
			out, err := g.session(client, script)
			_ = client.Close()
			if err != nil {
				t.Logf("%s: %v", script, err)
			}
			return out
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			t.Errorf("reach the guest: %v", err)
			return ""
		}
		time.Sleep(time.Second)
	}
}

func (g *machine) dial() (*ssh.Client, error) {
	return ssh.Dial("tcp", g.address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.key)}, Timeout: 20 * time.Second,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a guest of our own on a loopback port
	})
}

func (g *machine) session(client *ssh.Client, script string) (string, error) {
	s, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // it has ended
	var out bytes.Buffer
	s.Stdout, s.Stderr = &out, io.Discard
	err = s.Run(script)
	return out.String(), err
}

package crash

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/bus"
	"rehost/internal/command"
	"rehost/protocol"
)

const (
	hostBytes = 48 << 20
	// spareBytes is a disk whose filesystem is mounted nowhere: for all that the agent can tell, the root is there. Then no survey speaks against a
	// conversion, which is played here.
	spareBytes = 16 << 20
	// ballast is what each disk carries from the beginning: a sync of it all cannot be taken for one of changes.
	ballast = 24 << 20
	// record is what the writer writes at once. It goes round in the ledger.
	record, ledgerRecords = 4096, 256
	greeting              = "rehost: this disk has booted"
)

// host is a server with a loop device that carries a mounted filesystem, a real agent, and an application that writes.
type host struct {
	name, dir, mount, device string
	file                     string // behind the disk; a copy of it at each point is beside it

	mu      sync.Mutex  // guards written
	written []time.Time // the writes that succeeded
}

// hostConfig is the agent's configuration. Its fence takes the filesystem from every writer, which the kernel sees to.
const hostConfig = `server = %[1]q
bus {
  servers = [%[2]q]
  ca_file = "%[3]s/ca.pem"
}
state_dir  = "%[3]s/state"
run_dir    = "%[3]s/run"
pin_dir    = "%[3]s/bpf"
disks      = [%[4]q, %[6]q]
free_space = "copy" # whole disks are compared
hooks {
  fence   = ["/bin/sh", "-c", "until mount -o remount,ro %[3]s/mnt; do sleep 0.02; done"]
  unfence = ["/bin/mount", "-o", "remount,rw", "%[3]s/mnt"]
}
freeze {
  budget = "1s"
  cap    = "2s"
}
debug {
  frozen_hook = ["/bin/sh", "-c", "exec cp --reflink=always %[5]s/%[1]s %[5]s/%[1]s.$0"]
}
`

// bootSector prints the greeting on the serial port when a machine boots from it, and halts.
func bootSector() []byte {
	out := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xbe, 0x16, 0x7c, 0xfc, // si = the text
		0xac, 0x08, 0xc0, 0x74, 0x06, // next: al = *si++; at the end of the text, halt
		0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, // write al to the port; next
		0xf4, 0xeb, 0xfd, // halt
	}
	out = append(out, "\r\n"+greeting+"\r\n"...)
	out = append(out, make([]byte, 510-len(out))...)
	return append(out, 0x55, 0xaa)
}

// newHost makes a server with its disk, which is a file in a pool that can make copies in no time. Its agent does not run yet.
func newHost(t *testing.T, root, pool, name string, b protocol.Bus, id bus.Identity) *host {
	t.Helper()
	dir, file := filepath.Join(root, name), filepath.Join(pool, name)
	h := &host{name: name, dir: dir, file: file, mount: filepath.Join(dir, "mnt")}
	for _, d := range []string{"mnt", "state"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	h.device = attachDisk(t, file, hostBytes)
	spare := attachDisk(t, file+".spare", spareBytes)
	disk, err := os.OpenFile(h.device, os.O_WRONLY, 0)
	must(t, err)
	_, err = disk.Write(bootSector()) // ext4 leaves the place to it
	must(t, errors.Join(err, disk.Sync(), disk.Close()))
	must(t, unix.Mount(h.device, h.mount, "ext4", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(h.mount, 0); err != nil {
			t.Errorf("unmount %s: %v", h.mount, err)
		}
	})
	noise := make([]byte, ballast)
	_, _ = rand.Read(noise) // never fails
	must(t, os.WriteFile(filepath.Join(h.mount, "ballast"), noise, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(b.CA), 0o600))
	must(t, bus.SaveIdentity(filepath.Join(dir, "state", "identity.json"), id))
	must(t, os.WriteFile(h.config(), fmt.Appendf(nil, hostConfig, name, b.Servers[0], dir, h.device, pool, spare), 0o600))
	return h
}

// attachLoop makes a file a device until the test ends.
func attachLoop(t *testing.T, opts blockdev.LoopOptions) (device string) {
	t.Helper()
	loop, err := blockdev.AttachLoop(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() {
		if err := loop.Detach(); err != nil {
			t.Error(err)
		}
	})
	return loop.Path
}

// attachDisk makes a disk with a filesystem.
func attachDisk(t *testing.T, file string, size int64) (device string) {
	t.Helper()
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, size))
	device = attachLoop(t, blockdev.LoopOptions{File: file, DirectIO: true})
	_, err := command.Run(t.Context(), "mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
	must(t, err)
	return device
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) config() string { return filepath.Join(h.dir, "agent.hcl") }

const (
	agentProgram   = "../../bin/rehost-agent"
	replicaProgram = "../../bin/rehost-replicaserver"
)

// keepAgent runs the agent until the test ends, and removes what it leaves in the kernel.
func (h *host) keepAgent(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	t.Cleanup(func() { // when the agent has ended
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the agent of %s:\n%s", h.name, text[max(0, len(text)-3000):])
		}
		out, err := exec.Command(agentProgram, "remove", "--config", h.config()).CombinedOutput()
		if err = errors.Join(err, log.Close()); err != nil {
			t.Errorf("remove the agent of %s: %v: %s", h.name, err, out)
		}
	})
	startPart(t, func() *exec.Cmd {
		cmd := exec.Command(agentProgram, "run", "--config", h.config())
		cmd.Stdout, cmd.Stderr = log, log
		return cmd
	})
}

// write writes one record, if the source lets it, durably.
func (h *host) write(n int) error {
	f, err := os.OpenFile(filepath.Join(h.mount, "ledger"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}, record/4), int64(n%ledgerRecords*record))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written = append(h.written, time.Now())
	return nil
}

// keepWriting writes all the time, as far as the source lets it, until the test ends.
func (h *host) keepWriting(w *world) {
	n := 0
	w.loop(func(context.Context) {
		if err := h.write(n); err == nil {
			n++
		} else if !errors.Is(err, unix.EROFS) {
			w.t.Errorf("write on %s: %v", h.name, err)
		}
	})
}

// writes are when writes succeeded from a moment on, the first one and how many.
func (h *host) writes(from time.Time) (first time.Time, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, at := range h.written {
		if at.After(from) {
			return at, len(h.written) - i
		}
	}
	return time.Time{}, 0
}

// kernelWrites is what the kernel has written to the disk: requests, and bytes.
func (h *host) kernelWrites(t *testing.T) (requests, bytes int64) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(h.device), "stat"))
	must(t, err)
	var skip int64
	_, err = fmt.Sscan(string(text), &skip, &skip, &skip, &skip, &requests, &skip, &bytes)
	must(t, err)
	return requests, bytes * 512
}

// equalAt compares the disk as it was when it stood still for a point with the point's snapshot.
func (h *host) equalAt(t *testing.T, snapshots string, p protocol.Point) {
	t.Helper()
	if len(p.Snapshots) != 2 {
		t.Fatalf("point %s of %s has the snapshots %v", p.ID, h.name, p.Snapshots)
	}
	for i, file := range []string{h.file + "." + p.ID, h.file + ".spare"} {
		frozen, err := os.ReadFile(file)
		must(t, err)
		snapshot, err := os.ReadFile(filepath.Join(snapshots, p.Snapshots[i]+".raw"))
		must(t, err)
		if len(snapshot) < len(frozen) || !bytes.Equal(frozen, snapshot[:len(frozen)]) {
			t.Errorf("%s: the snapshot %s of point %s is not what the source was", h.name, p.Snapshots[i], p.ID)
		}
	}
}

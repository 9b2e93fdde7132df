package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"rehost/protocol"
)

// tools are services of the old hypervisor's or cloud's guest tools: without their
// host they fail at best, and block or reset the guest's configuration at worst.
var tools = []string{
	"open-vm-tools", "vmtoolsd", "vgauthd", "vgauth", "vmware-tools", "vmware-tools-thinprint",
	"vboxadd", "vboxadd-service", "virtualbox-guest-utils", "vboxservice", "prltoolsd",
	"qemu-guest-agent", "xe-linux-distribution", "xe-daemon",
	"hv-kvp-daemon", "hv-vss-daemon", "hv-fcopy-daemon", "hv_kvp_daemon", "hv_vss_daemon", "hv_fcopy_daemon", // Ubuntu, SUSE
	"hyperv-daemons.hv-kvp-daemon", "hyperv-daemons.hv-vss-daemon", "hyperv-daemons.hv-fcopy-daemon", // Debian
	"hypervkvpd", "hypervvssd", "hypervfcopyd", // Red Hat
	"walinuxagent", "waagent", "walinuxagent-network-setup", "waagent-network-setup",
	"google-guest-agent", "google-guest-agent-manager", "google-osconfig-agent", "google-startup-scripts", "google-shutdown-scripts",
	"google-instance-setup", "google-network-daemon", "google-accounts-daemon", "google-clock-skew-daemon",
	"oracle-cloud-agent", "oracle-cloud-agent-updater", "aliyun", "do-agent", "droplet-agent",
}

// multipath takes the disks of EC2, which have one path each, away from those who use them. Servers with iSCSI disks need it.
var (
	multipath = []string{"multipathd.service", "multipathd.socket"}
	iscsi     = []string{"/etc/iscsi/nodes", "/var/lib/iscsi/nodes"}
)

// unitDirs are where units are installed; the first one is the administrator's.
var unitDirs = []string{"/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"}

// initDir has services in the old way, of which systemd makes units.
const initDir = "/etc/init.d"

func serviceFiles() []string {
	files := slices.Clone(iscsi)
	for _, t := range tools {
		files = append(files, unitFiles(t+".service")...)
	}
	for _, u := range multipath {
		files = append(files, unitFiles(u)...)
	}
	return files
}

// unitFiles are where a unit may be installed.
func unitFiles(unit string) []string {
	var files []string
	for _, d := range unitDirs {
		files = append(files, path.Join(d, unit))
	}
	return append(files, path.Join(initDir, strings.TrimSuffix(unit, ".service")))
}

// services plans masks for guest tools and a login on the serial console.
func (p *planner) services() error {
	for _, t := range tools {
		p.mask(t+".service", "the guest tools of the old hypervisor have no host any more")
	}
	if !slices.ContainsFunc(iscsi, p.facts.hasFile) {
		for _, u := range multipath {
			p.mask(u, "a disk of EC2 has one path, and the guest has no iSCSI disks")
		}
	}
	const getty = "/etc/systemd/system/serial-getty@ttyS0.service"
	if p.facts.Files[getty].Link == "/dev/null" {
		p.remove(getty, "a login on the serial console is the last resort in EC2")
	}
	return nil
}

// mask plans that systemd does not start a unit, if it is installed.
func (p *planner) mask(unit, reason string) {
	if slices.ContainsFunc(unitFiles(unit), p.facts.hasFile) {
		p.link(path.Join(unitDirs[0], unit), "/dev/null", reason)
	}
}

// Where our agent may be on a source, and where the conversion keeps its own record.
const (
	agentUnit  = "rehost-agent.service"
	stateDir   = "/var/lib/rehost"
	recordName = "conversion"
	maxAgent   = 4096 // files; there are a handful
)

var agentBinaries = []string{"/usr/bin/rehost-agent", "/usr/sbin/rehost-agent", "/usr/local/bin/rehost-agent", "/usr/local/sbin/rehost-agent"}

// lookForAgent finds all that belongs to our agent.
func (f *Facts) lookForAgent(root *Root) error {
	for _, p := range agentBinaries {
		if err := f.look(root, p); err != nil {
			return err
		}
	}
	for _, d := range unitDirs {
		if err := f.look(root, path.Join(d, agentUnit)); err != nil {
			return err
		}
	}
	names, err := root.ReadDir(unitDirs[0])
	if err != nil && !missing(err) {
		return fmt.Errorf("inspect %s: %w", unitDirs[0], err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".wants") || n == agentUnit+".d" {
			if err := f.look(root, path.Join(unitDirs[0], n, agentUnit)); err != nil {
				return err
			}
		}
		if n == agentUnit+".d" {
			if err := f.lookBelow(root, path.Join(unitDirs[0], n)); err != nil {
				return err
			}
		}
	}
	for _, d := range []string{"/etc/rehost", stateDir} {
		if err := f.lookBelow(root, d); err != nil {
			return err
		}
	}
	return nil
}

// lookBelow takes note of a folder that is ours and all in it, links not followed.
func (f *Facts) lookBelow(root *Root, dir string) error {
	info, err := root.Lstat(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dir, err)
	}
	if !info.IsDir() {
		return nil // not made by us
	}
	names, err := root.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dir, err)
	}
	f.Files[dir] = File{Mode: info.Mode()}
	for _, n := range names {
		p := path.Join(dir, n)
		if p == path.Join(stateDir, recordName) {
			continue
		}
		if len(f.Files) > maxAgent {
			return errors.New("inspect the agent's folders: too many files")
		}
		info, err := root.Lstat(p)
		if err != nil {
			return fmt.Errorf("inspect %s: %w", p, err)
		}
		if info.IsDir() {
			err = f.lookBelow(root, p)
		} else if info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0 {
			err = f.look(root, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// agent plans the removal of our own agent: the converted server is no source any more.
func (p *planner) agent() error {
	const reason = "the migrated server needs no replication agent"
	for _, file := range sortedKeys(p.facts.Files) {
		ours := path.Base(file) == agentUnit || path.Base(path.Dir(file)) == agentUnit+".d" || strings.HasPrefix(file, "/etc/rehost/") ||
			strings.HasPrefix(file, stateDir+"/")
		for _, b := range agentBinaries {
			ours = ours || file == b
		}
		if ours {
			p.remove(file, reason)
		}
	}
	// Then the folders, the innermost first.
	for _, dir := range slices.Backward(sortedKeys(p.facts.Files)) {
		ours := dir == "/etc/rehost" || strings.HasPrefix(dir, "/etc/rehost/") || strings.HasPrefix(dir, stateDir+"/")
		if mode := p.facts.Files[dir].Mode; ours && mode.IsDir() {
			p.edits = append(p.edits, Edit{Change: protocol.Change{Path: dir, Action: ActionRemove, Reason: reason, Detail: "folder"}, Mode: mode})
		}
	}
	return nil
}

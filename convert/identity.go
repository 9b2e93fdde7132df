package convert

import (
	"fmt"
	"path"
	"strings"

	"rehost/protocol"
)

// Where a machine keeps what tells it from others.
const (
	machineID     = "/etc/machine-id"
	busMachineID  = "/var/lib/dbus/machine-id"
	sshKeygen     = "/usr/bin/ssh-keygen"
	sshConfig     = "/etc/ssh/sshd_config"
	sshConfigs    = sshConfig + ".d"
	hostKeys      = "ssh_host_*_key*" // below /etc/ssh: private and public keys, and certificates of them
	hostKeysUnit  = "/etc/systemd/system/rehost-ssh-host-keys.service"
	hostKeysWants = "/etc/systemd/system/multi-user.target.wants/rehost-ssh-host-keys.service"
)

// By no means every distribution makes host keys that are missing: Debian's package does when it is installed, and never again.
const hostKeysUnitText = `# Written by rehost.
[Unit]
Description=rehost: SSH host keys of its own
Before=ssh.service ssh.socket sshd.service sshd.socket sshd-keygen.target
RequiresMountsFor=/etc/ssh

[Service]
Type=oneshot
RemainAfterExit=yes
# Makes those that are missing, and no others.
ExecStart=` + sshKeygen + ` -A

[Install]
WantedBy=multi-user.target
`

// personal are files that another machine must not have and that each makes for itself: how it is known to DHCP servers, and what it draws its
// random numbers from.
var personal = []struct{ path, reason string }{
	{"/var/lib/NetworkManager/secret_key", knownToDHCP},
	{"/etc/dhcpcd.duid", knownToDHCP},
	{"/etc/dhcpcd.secret", knownToDHCP},
	{"/var/lib/dhcpcd/duid", knownToDHCP},
	{"/var/lib/dhcpcd/secret", knownToDHCP},
	{"/var/lib/wicked/duid.xml", knownToDHCP},
	{"/var/lib/wicked/iaid.xml", knownToDHCP},
	{"/var/lib/systemd/random-seed", randomSeed},
	{"/var/lib/urandom/random-seed", randomSeed},
	{"/var/lib/random-seed", randomSeed},
	{"/var/lib/misc/random-seed", randomSeed},
	{"/boot/efi/loader/random-seed", randomSeed},
	{"/efi/loader/random-seed", randomSeed},
	{"/boot/loader/random-seed", randomSeed},
}

const (
	knownToDHCP = "another machine is another client of DHCP servers"
	randomSeed  = "two machines must not draw the same random numbers"
	ownHostKeys = "another machine has SSH host keys of its own"
)

// leases are folders with what DHCP clients remember, their identifier among it.
var leases = []struct{ dir, pattern string }{
	{"/var/lib/dhcp", "dhclient*.lease*"},
	{"/var/lib/dhclient", "dhclient*.lease*"},
	{"/var/lib/NetworkManager", "*.lease"},
	{"/var/lib/dhcpcd", "*.lease*"},
	{"/var/lib/wicked", "lease-*.xml"},
}

// lookAtIdentity takes note of what tells the guest from other machines.
func (f *Facts) lookAtIdentity(root *Root) error {
	files := []string{machineID, busMachineID, sshKeygen, sshConfig, hostKeysUnit, hostKeysWants}
	for _, p := range personal {
		files = append(files, p.path)
	}
	for _, file := range files {
		if err := f.look(root, file); err != nil {
			return err
		}
	}
	for _, l := range leases {
		if err := f.lookFor(root, l.dir, l.pattern); err != nil {
			return err
		}
	}
	if err := f.lookFor(root, "/etc/ssh", hostKeys); err != nil {
		return err
	}
	return f.lookFor(root, sshConfigs, "*.conf")
}

// lookFor takes note of the files of a folder that match. What is too much for a folder of this kind is left out.
func (f *Facts) lookFor(root *Root, dir, pattern string) error {
	names, err := root.ReadDir(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dir, err)
	}
	count := 0
	for _, name := range names {
		if ok, err := path.Match(pattern, name); err != nil || !ok || count == maxNames {
			continue
		}
		count++
		if err := f.look(root, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// identity plans that the guest becomes another machine with the same software, where that is asked for.
func (p *planner) identity() error {
	if p.set.Identity != protocol.IdentityNew {
		return nil
	}
	p.note(protocol.FindingIdentity, "", "the guest gets another machine id and other SSH host keys; its name, its membership of domains, its certificates, its users "+
		"and what its programs are registered with stay the source's")
	p.machineID()
	p.hostKeys()
	for _, one := range personal {
		p.remove(one.path, one.reason)
	}
	for _, l := range leases {
		p.removeMatching(l.dir, l.pattern, knownToDHCP)
	}
	return nil
}

func (p *planner) removeMatching(dir, pattern, reason string) {
	for _, file := range p.facts.below(dir, "") {
		if ok, err := path.Match(pattern, path.Base(file)); err == nil && ok {
			p.remove(file, reason)
		}
	}
}

// machineID plans that the guest makes itself a machine id. With an empty file it does; without one, and with the word "uninitialized" in it,
// systemd would take this for the first boot at all, and set all its units to what the distribution has them be.
func (p *planner) machineID() {
	const reason = "another machine has a machine id of its own; with an empty file it makes one when it boots"
	id, ok := p.facts.Files[machineID]
	text, _ := p.facts.text(machineID)
	if text = strings.TrimSpace(text); text != "" && text != "uninitialized" {
		p.write(machineID, "", 0o444, reason)
	}
	// D-Bus has a copy in some guests, from which systemd would take the old one.
	bus, copied := p.facts.Files[busMachineID]
	switch {
	case !copied || bus.Link != "" || id.Link != "":
	case ok:
		p.link(busMachineID, machineID, reason)
	default:
		p.remove(busMachineID, reason)
	}
}

// hostKeys plans that the guest has SSH host keys of its own.
func (p *planner) hostKeys() {
	if !p.facts.hasFile(sshConfig) {
		return
	}
	systemd := p.facts.hasFile(firstBootFiles[0]) || p.facts.hasFile(firstBootFiles[1])
	if !systemd || !p.facts.hasFile(sshKeygen) {
		p.warn(protocol.FindingIdentity, "/etc/ssh", "make other ones by hand: ssh-keygen -A", "the SSH host keys stay: there is no systemd or no %s that would make new ones", sshKeygen)
		return
	}
	for _, file := range append([]string{sshConfig}, p.facts.below(sshConfigs, ".conf")...) {
		text, _ := p.facts.text(file)
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) < 2 || !strings.EqualFold(fields[0], "HostKey") {
				continue
			}
			if ok, err := path.Match("/etc/ssh/"+hostKeys, fields[1]); err != nil || !ok {
				p.warn(protocol.FindingIdentity, fields[1], "make another one by hand, or in a script of the launch settings", "the SSH host key %s stays: ssh-keygen -A makes none of that name", fields[1])
			}
		}
	}
	// The unit comes first: a guest whose conversion was cut off must not lack both.
	p.write(hostKeysUnit, hostKeysUnitText, 0o644, ownHostKeys)
	p.link(hostKeysWants, "../rehost-ssh-host-keys.service", ownHostKeys)
	p.removeMatching("/etc/ssh", hostKeys, ownHostKeys)
}

package convert

import (
	"fmt"
	"path"
	"slices"

	"rehost/protocol"
)

// The first boot as an instance: a unit, and the script that it runs once.
const (
	firstBootUnit   = "/etc/systemd/system/rehost-first-boot.service"
	firstBootWants  = "/etc/systemd/system/multi-user.target.wants/rehost-first-boot.service"
	firstBootScript = "/usr/lib/rehost/first-boot"
	firstBootFolder = "/usr/lib/rehost/first-boot.d" // scripts of the launch settings
	// postLaunch is where AWS MGN looks for a server's own scripts, too.
	postLaunch = "/boot/post_launch"
)

const firstBootUnitText = `# Written by rehost.
[Unit]
Description=rehost: first boot as an instance
ConditionPathExists=!/var/lib/rehost-first-boot
Wants=network-online.target
After=network-online.target

[Service]
# Not oneshot: nothing of the boot waits for it.
Type=simple
ExecStart=/bin/sh ` + firstBootScript + `
StandardInput=null
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

const firstBootScriptText = `#!/bin/sh
# Written by rehost: runs what is executable in ` + postLaunch + `, then the scripts of the launch settings, in the order of the names, each for ten minutes at most, and
# once in the life of the instance. What it says goes to the journal and to the console.
root=${REHOST_ROOT:-}
done=$root/var/lib/rehost-first-boot
[ ! -e "$done" ] || exit 0
failed=0
for script in "$root` + postLaunch + `"/* "$root` + firstBootFolder + `"/*; do
	[ -f "$script" ] && [ -x "$script" ] || continue
	name=${script##*/}
	echo "rehost: first boot: $name begins"
	timeout 600 "$script"
	code=$?
	echo "rehost: first boot: $name ended with $code"
	[ "$code" -eq 0 ] || failed=$((failed + 1))
done
date -u >"$done"
echo "rehost: first boot: done, $failed failed"
`

// firstBootFiles tell whether systemd runs the guest.
var firstBootFiles = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", postLaunch, firstBootUnit, firstBootWants, firstBootScript}

// firstBoot plans what runs once when the guest boots as an instance: the owner's scripts, and word on the console.
func (p *planner) firstBoot() error {
	if !p.facts.hasFile(firstBootFiles[0]) && !p.facts.hasFile(firstBootFiles[1]) {
		if p.facts.hasFile(postLaunch) || len(p.set.Scripts) > 0 {
			p.warn(protocol.FindingFirstBoot, postLaunch, "run them by hand, or from an init script of the guest",
				"the scripts in %s and in the launch settings are not run: the guest has no systemd", postLaunch)
		}
		return nil
	}
	const reason = "scripts of the first boot as an instance, and word of it on the console"
	var scripts []string
	for i, s := range p.set.Scripts {
		file := fmt.Sprintf("%s/%02d-%s", firstBootFolder, i+1, path.Base(s.Name))
		scripts = append(scripts, file)
		p.write(file, s.Content, 0o755, "a script of the launch settings")
	}
	for _, old := range p.facts.below(firstBootFolder, "") {
		if !slices.Contains(scripts, old) {
			p.remove(old, "it is in the launch settings no more")
		}
	}
	p.write(firstBootScript, firstBootScriptText, 0o755, reason)
	p.write(firstBootUnit, firstBootUnitText, 0o644, reason)
	p.link(firstBootWants, "../rehost-first-boot.service", reason)
	return nil
}

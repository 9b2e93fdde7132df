package convert

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

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
SyslogIdentifier=rehost-first-boot

[Install]
WantedBy=multi-user.target
`

const firstBootScriptHead = `#!/bin/sh
# Written by rehost: runs what is executable in ` + postLaunch + `, then the scripts of the launch settings, in the order of the names, each for its time at most, and
# once in the life of the instance. What it says goes to the journal and to the console.
root=${REHOST_ROOT:-}
done=$root/var/lib/rehost-first-boot
[ ! -e "$done" ] || exit 0
failed=0
run() {
	[ -f "$2" ] && [ -x "$2" ] || return 0
	name=${2##*/}
	echo "` + protocol.FirstBootWord + `$name begins"
	timeout "$1" "$2"
	code=$?
	echo "` + protocol.FirstBootWord + `$name ended with $code"
	[ "$code" -eq 0 ] || failed=$((failed + 1))
}
for script in "$root` + postLaunch + `"/*; do
	run %d "$script"
done
`

const firstBootScriptTail = `date -u >"$done"
echo "` + protocol.FirstBootWord + `done, $failed failed"
`

// firstBootScriptText is the script that runs others: those of the owner's folder, then the given ones.
func firstBootScriptText(files []string, scripts []protocol.Script) string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, firstBootScriptHead, seconds(protocol.DefaultScriptTimeout))
	for i, s := range scripts {
		_, _ = fmt.Fprintf(&text, "run %d \"$root%s\"\n", seconds(s.Limit()), files[i])
	}
	return text.String() + firstBootScriptTail
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// unusual is all that is not in the file name of a script: it stands in quotes in another script.
var unusual = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// firstBootFiles tell whether systemd runs the guest.
var firstBootFiles = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", postLaunch, firstBootUnit, firstBootWants, firstBootScript}

// firstBoot plans what runs once when the guest boots as an instance: the owner's scripts, and word on the console.
func (p *planner) firstBoot() error {
	scripts := protocol.ScriptsOf(p.set.Scripts, protocol.ScriptFirstBoot)
	if !p.facts.hasFile(firstBootFiles[0]) && !p.facts.hasFile(firstBootFiles[1]) {
		if p.facts.hasFile(postLaunch) || len(scripts) > 0 {
			p.warn(protocol.FindingFirstBoot, postLaunch, "run them by hand, or from an init script of the guest",
				"the scripts in %s and in the launch settings are not run: the guest has no systemd", postLaunch)
		}
		return nil
	}
	const reason = "scripts of the first boot as an instance, and word of it on the console"
	var files []string
	for i, s := range scripts {
		file := fmt.Sprintf("%s/%02d-%s", firstBootFolder, i+1, unusual.ReplaceAllString(path.Base(s.Name), "_"))
		files = append(files, file)
		p.write(file, s.Content, 0o755, "a script of the launch settings")
	}
	for _, old := range p.facts.below(firstBootFolder, "") {
		if !slices.Contains(files, old) {
			p.remove(old, "it is in the launch settings no more")
		}
	}
	p.write(firstBootScript, firstBootScriptText(files, scripts), 0o755, reason)
	p.write(firstBootUnit, firstBootUnitText, 0o644, reason)
	p.link(firstBootWants, "../rehost-first-boot.service", reason)
	return nil
}

package convert

import (
	"regexp"
	"strings"
)

// assemblyFiles say how the guest puts its volumes together from disks.
var assemblyFiles = []string{
	"/etc/lvm/lvm.conf", "/etc/lvm/devices/system.devices", "/etc/lvm/cache/.cache", "/etc/mdadm/mdadm.conf", "/etc/mdadm.conf",
	"/etc/blkid/blkid.tab", "/etc/blkid.tab", "/etc/multipath.conf",
}

// oldDevice matches a name of a disk that the old hypervisor gave, in a filter or a list.
var oldDevice = regexp.MustCompile(`/dev/(?:(?:xv|[shv])d|nvme|cciss|disk/by-(?:id|path)/)`)

// assembly plans what LVM and RAID know of their disks: in EC2 they have other names and identities, and are found by their content.
func (p *planner) assembly() error {
	const reason = "it names disks of the old hypervisor; in EC2 they are found by their content"
	for _, file := range []string{"/etc/lvm/devices/system.devices", "/etc/lvm/cache/.cache", "/etc/blkid/blkid.tab", "/etc/blkid.tab"} {
		p.remove(file, reason)
	}
	if text, ok := p.facts.text("/etc/lvm/lvm.conf"); ok {
		p.write("/etc/lvm/lvm.conf", fixFilters(text), 0o644, reason)
	}
	for _, file := range []string{"/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"} {
		if text, ok := p.facts.text(file); ok {
			p.write(file, fixArrays(text), 0o644, reason)
		}
	}
	return nil
}

// fixFilters comments out the filters of lvm.conf that go by the names of disks.
func fixFilters(text string) string {
	const mark = "# rehost: names disks of the old hypervisor: "
	var out strings.Builder
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); i++ {
		key, _, ok := strings.Cut(lines[i], "=")
		key = strings.TrimSpace(key)
		if !ok || (key != "filter" && key != "global_filter") {
			out.WriteString(lines[i])
			continue
		}
		end := i // of a list that goes on in the next lines
		for end < len(lines)-1 && !strings.Contains(lines[end], "]") {
			end++
		}
		old := oldDevice.MatchString(strings.Join(lines[i:end+1], ""))
		for ; i <= end; i++ {
			if old && lines[i] != "" {
				out.WriteString(mark)
			}
			out.WriteString(lines[i])
		}
		i--
	}
	return out.String()
}

var devicesFileLine = regexp.MustCompile(`(?m)^[ \t]*use_devicesfile[ \t]*=.*$`)

// withoutDevicesFile makes LVM look at all disks, not at those in a list of the old ones.
func withoutDevicesFile(text string) string {
	const line = "\tuse_devicesfile = 0"
	if devicesFileLine.MatchString(text) {
		return devicesFileLine.ReplaceAllLiteralString(text, line)
	}
	for _, head := range []string{"devices {\n", "devices{\n"} {
		if strings.HasPrefix(text, head) {
			return head + line + "\n" + text[len(head):]
		}
		if before, after, ok := strings.Cut(text, "\n"+head); ok {
			return before + "\n" + head + line + "\n" + after
		}
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + "devices {\n" + line + "\n}\n"
}

// fixArrays takes the names of disks out of mdadm.conf: arrays are found by their UUID on any disk.
func fixArrays(text string) string {
	var out strings.Builder
	skip := false // what continues a line that was replaced
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		continues := len(words) > 0 && strings.ContainsAny(line[:1], " \t")
		switch {
		case skip && continues:
			continue
		case len(words) > 0 && strings.EqualFold(words[0], "DEVICE") && oldDevice.MatchString(line):
			skip = true
			out.WriteString("DEVICE partitions\n")
			continue
		}
		skip = false
		out.WriteString(withoutDevices(line, words))
	}
	return out.String()
}

// withoutDevices returns a line without the words that list an array's disks.
func withoutDevices(line string, words []string) string {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return line
	}
	for _, w := range words {
		if strings.HasPrefix(strings.ToLower(w), "devices=") {
			at := strings.Index(line, w)
			line = strings.TrimRight(line[:at], " \t") + line[at+len(w):]
		}
	}
	return line
}

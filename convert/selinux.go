package convert

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"rehost/protocol"
)

// SELinux is what is known of the labels in a guest.
type SELinux struct {
	Enforcing bool `json:"enforcing"` // as its configuration has it
	Relabels  bool `json:"relabels"`  // it has the program that gives all files their labels
	// Unlabelled are folders that a conversion may write to and whose label is not known: a new file in them gets none.
	Unlabelled []string `json:"unlabelled,omitempty"`
}

const (
	selinuxConfig = "/etc/selinux/config"
	autorelabel   = "/.autorelabel" // the next boot gives all files their labels
)

var (
	selinuxFiles = []string{selinuxConfig, autorelabel, "/sbin/fixfiles", "/usr/sbin/fixfiles"}
	// noSELinux are kernel arguments by which nothing is enforced.
	noSELinux = []string{"selinux=0", "enforcing=0"}
)

// relabelRate is how many files a second get a label on a volume of which each block is read for the first time.
const relabelRate = 1000

// inspectLabels finds folders without labels in a guest that enforces its policy.
func (f *Facts) inspectLabels(root *Root) error {
	config, _ := f.text(selinuxConfig)
	grub, _ := f.text("/etc/default/grub")
	args := strings.FieldsFunc(grub, func(r rune) bool { return strings.ContainsRune(" \t\n\"'", r) })
	off := slices.ContainsFunc(noSELinux, func(a string) bool { return slices.Contains(args, a) })
	f.SELinux.Enforcing = shellValue(config, "SELINUX") == "enforcing" && !off
	f.SELinux.Relabels = f.hasFile("/sbin/fixfiles") || f.hasFile("/usr/sbin/fixfiles")
	if !f.SELinux.Enforcing {
		return nil
	}
	for _, dir := range sortedKeys(f.folders) {
		if s, ok := f.Holds(dir); ok && s.Type == "vfat" || strings.HasPrefix(dir+"/", f.Boot.ESP+"/EFI/") {
			continue // a policy gives all of such a filesystem one label
		}
		label, err := root.Label(dir)
		if missing(err) {
			continue // a part of it is a file: nothing is written there
		}
		if err != nil {
			return fmt.Errorf("inspect %s: %w", dir, err)
		}
		if label == "" {
			f.SELinux.Unlabelled = append(f.SELinux.Unlabelled, dir)
		}
	}
	return nil
}

// relabel plans that the guest labels its files when new ones would have no label: what enforces a policy may not let its services
// read them.
func (p *planner) relabel() error {
	subject, why, ok := p.unlabelled()
	if !ok || !p.facts.SELinux.Enforcing {
		return nil
	}
	if !p.facts.SELinux.Relabels {
		p.warn(protocol.FindingRelabel, subject, "install policycoreutils on the source, or boot it with enforcing=0",
			"the guest enforces SELinux, %s, and there is no program that would set labels: services may not be able to read what the conversion writes", why)
		return nil
	}
	var files int64
	for _, s := range p.facts.Spaces {
		files += s.Used
	}
	takes := "as long as it takes to read all its folders"
	if files > 0 {
		takes = fmt.Sprintf("about %d min for %d files, at %d a second", files/relabelRate/60+1, files, relabelRate)
	}
	p.warn(protocol.FindingRelabel, subject, "count it in the time of the cutover; or label the source: touch /.autorelabel there and boot it once",
		"the guest enforces SELinux and %s, so the first boot labels all files (%s) and then boots once more", why, takes)
	if !p.facts.hasFile(autorelabel) {
		p.write(autorelabel, "", 0o644, "new files have no SELinux label; the first boot sets the labels of all files: "+takes)
	}
	return nil
}

// unlabelled says where new files have no label: in a folder that has none, or wherever a script writes, in a machine that knows no policy.
func (p *planner) unlabelled() (subject, why string, ok bool) {
	i := slices.IndexFunc(p.edits, func(e Edit) bool {
		return (e.Action == ActionCreate || e.Action == ActionLink) && slices.Contains(p.facts.SELinux.Unlabelled, path.Dir(e.Path))
	})
	switch {
	case i >= 0:
		dir := path.Dir(p.edits[i].Path)
		return dir, dir + " has no label", true
	case len(protocol.ScriptsOf(p.set.Scripts, protocol.ScriptAfterConversion)) > 0:
		return "/", "files of scripts have no label", true
	}
	return "", "", false
}

package convert

import (
	"slices"
	"strings"
	"testing"

	"rehost/protocol"
)

// TestLabelsThatAreNotKnown: what a conversion writes in a folder without a label, services of a guest that enforces its policy cannot read.
func TestLabelsThatAreNotKnown(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*Facts)
		planned bool
		finding string // a part of its text; empty: none
	}{
		{"no label", func(*Facts) {}, true, "about 6 min for 300000 files, at 1000 a second"},
		{"files are not counted", func(f *Facts) { f.Spaces[0].Used = 0 }, true, "as long as it takes"},
		{"labels", func(f *Facts) { f.SELinux.Unlabelled = nil }, false, ""},
		{"another folder has none", func(f *Facts) { f.SELinux.Unlabelled = []string{"/boot/grub2"} }, false, ""},
		{"not enforced", func(f *Facts) { f.SELinux.Enforcing = false }, false, ""},
		{"it relabels anyway", func(f *Facts) { f.Files[autorelabel] = File{} }, false, "labels all files"},
		{"no program", func(f *Facts) { f.SELinux.Relabels = false }, false, "no program"},
	} {
		_, root := newGuest(t, debian(t))
		f, err := Inspect(root, testDisks)
		if err != nil {
			t.Fatal(err)
		}
		f.Guest.RootUUID = rootUUID
		f.SELinux = SELinux{Enforcing: true, Relabels: true, Unlabelled: []string{"/etc/systemd/system"}}
		f.Spaces = []Space{{Mount: "/", Free: 1 << 30, Files: -1, Used: 300000}}
		tt.change(&f)
		plan, err := MakePlan(f, protocol.ConversionSettings{})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(plan.Edits, func(e Edit) bool { return e.Path == autorelabel }); got != tt.planned {
			t.Errorf("%s: planned is %v", tt.name, got)
		}
		i := slices.IndexFunc(plan.Findings, func(f protocol.Finding) bool { return f.Code == protocol.FindingRelabel })
		if i < 0 != (tt.finding == "") || i >= 0 && !strings.Contains(plan.Findings[i].Message, tt.finding) {
			t.Errorf("%s: got %+v", tt.name, plan.Findings)
		}
	}
}

func TestSELinuxIsFound(t *testing.T) {
	for name, tt := range map[string]struct {
		config, grub string
		enforcing    bool
	}{
		"enforcing":   {"# SELINUX= can take one of these\nSELINUX=enforcing\nSELINUXTYPE=targeted\n", "", true},
		"permissive":  {"SELINUX=permissive\n", "", false},
		"off at boot": {"SELINUX=enforcing\n", "GRUB_CMDLINE_LINUX=\"crashkernel=auto selinux=0\"\n", false},
		"none":        {"", "", false},
	} {
		files := debian(t)
		files["etc/selinux/config"], files["etc/default/grub"], files["usr/sbin/fixfiles"] = tt.config, tt.grub, "#!/bin/bash\n"
		_, root := newGuest(t, files)
		f, err := Inspect(root, testDisks)
		if err != nil || f.SELinux.Enforcing != tt.enforcing || !f.SELinux.Relabels {
			t.Errorf("%s: got %+v, %v", name, f.SELinux, err)
		}
		label, err := root.Label("/etc")
		if err != nil {
			t.Fatal(err)
		}
		if got := len(f.SELinux.Unlabelled) > 0; got != (tt.enforcing && label == "") {
			t.Errorf("%s: folders without labels: %v", name, f.SELinux.Unlabelled)
		}
	}
}

package convert

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestToolsOfTheOldHypervisorAreMasked(t *testing.T) {
	for name, c := range map[string]struct{ files, masked []string }{
		"in either folder of units": {
			[]string{"/lib/systemd/system/open-vm-tools.service", "/usr/lib/systemd/system/hypervkvpd.service"},
			[]string{"open-vm-tools.service", "hypervkvpd.service"},
		},
		"as an init script":       {[]string{"/etc/init.d/vboxadd"}, []string{"vboxadd.service"}},
		"of another cloud":        {[]string{"/usr/lib/systemd/system/google-osconfig-agent.service"}, []string{"google-osconfig-agent.service"}},
		"multipath":               {[]string{"/lib/systemd/system/multipathd.service", "/lib/systemd/system/multipathd.socket"}, []string{"multipathd.service", "multipathd.socket"}},
		"multipath of iSCSI":      {[]string{"/lib/systemd/system/multipathd.service", "/etc/iscsi/nodes"}, nil},
		"what has nothing of all": {[]string{"/lib/systemd/system/ssh.service"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Files: map[string]File{}}
			for _, file := range c.files {
				f.Files[file] = File{}
			}
			p := &planner{facts: f}
			if err := p.services(); err != nil {
				t.Fatal(err)
			}
			var masked []string
			for _, e := range p.edits {
				if e.Action != ActionLink || e.Target != "/dev/null" {
					t.Errorf("unexpected: %+v", e)
				}
				masked = append(masked, e.Path[len(unitDirs[0])+1:])
			}
			if d := cmp.Diff(c.masked, masked); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

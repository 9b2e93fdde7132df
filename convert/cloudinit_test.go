package convert

import (
	"testing"

	"rehost/protocol"
)

func TestCloudInitIsToldWhereItIs(t *testing.T) {
	for _, c := range []struct {
		files []string
		want  int
	}{
		{nil, 0},
		{[]string{"/etc/cloud/cloud.cfg"}, 0}, // it was removed
		{[]string{"/etc/cloud/cloud.cfg", "/usr/bin/cloud-init"}, 1},
	} {
		f := Facts{Files: map[string]File{}}
		for _, name := range c.files {
			f.Files[name] = File{}
		}
		p := &planner{facts: f, set: protocol.ConversionSettings{Network: "dhcp"}}
		if err := p.cloudInit(); err != nil || len(p.edits) != c.want {
			t.Errorf("%v: %d edits, %v", c.files, len(p.edits), err)
		}
	}
}

package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func TestACreatedBlockShowsWhatIsSet(t *testing.T) {
	applied, wanted := example(), example()
	applied.Servers, applied.Applications, applied.Waves = nil, nil, nil
	wanted.Launches[0].Subnet = "subnet-1"
	applied.Launches[0].Subnet = "subnet-1"
	wanted.Launches = append(wanted.Launches, protocol.LaunchSettings{
		Name: "db", InstanceType: "r5.large", UserData: "#!/bin/sh\npassword=secret", Disks: []protocol.LaunchDisk{{Name: "/dev/sdb", IOPS: 4000}},
	})
	wanted.Checks = append(wanted.Checks, protocol.CheckSettings{Name: "up"})
	wanted.Servers[0].Checks, wanted.Servers[0].FenceMax = []string{}, time.Minute
	want := []string{
		`create launch db disks: none -> ["/dev/sdb"] disks[/dev/sdb].iops: none -> 4000 instance_type: none -> "r5.large" user_data: none -> "(25 bytes, sha256 598a3488...)"`,
		// A port of 0 is none, a timeout of 0 is one.
		"create check up timeout_ns: none -> 0",
		// With what it inherits, and where it belongs.
		`create server web-1 application: none -> "shop" fence_max_ns: none -> 60000000000 launch: none -> "web"` +
			` launch.instance_type: none -> "t3.small" launch.subnet: none -> "subnet-1" replication: none -> "default" wave: none -> "one"`,
		`create application shop servers: none -> ["web-1"] wave: none -> "one"`,
		`create wave one applications: none -> ["shop"]`,
	}
	if diff := cmp.Diff(want, lines(plan(t, applied, wanted, View{}))); diff != "" {
		t.Error(diff)
	}
}

// What a created server inherits is no part of the plan's identity: its block is, and so are changes of the others.
func TestAPlanKeptBeforeFieldsWereShownIsNotStale(t *testing.T) {
	applied := example()
	applied.Servers = nil
	p := plan(t, applied, example(), View{})
	older := p.Changes
	for i := range older {
		older[i].Fields = nil
	}
	if sum, err := hash(older); err != nil || sum != p.Hash {
		t.Errorf("got %s (%v), want %s", sum, err, p.Hash)
	}
}

package account

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// region answers, and counts what it is asked.
type region struct {
	mu     sync.Mutex
	asked  int
	refuse error // of launches with a profile
	own    []cloud.Trial
	used   cloud.Used
	limits map[string]float64 // by code; 1,000 for others
}

func (r *region) answer(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return err
}

func (r *region) TryInstance(_ context.Context, spec cloud.InstanceSpec) error {
	if spec.Options.Profile == "" {
		return r.answer(nil)
	}
	return r.answer(r.refuse)
}

func (r *region) TryVolume(context.Context, cloud.VolumeSpec, string, string) error {
	return r.answer(nil)
}

func (r *region) TryImage(context.Context, cloud.ImageSpec, string) error { return r.answer(nil) }
func (r *region) TryGroup(context.Context, cloud.GroupSpec) error         { return r.answer(nil) }

func (r *region) TryOwn(context.Context, string) []cloud.Trial {
	_ = r.answer(nil)
	return r.own
}

func (r *region) Key(_ context.Context, name string) error {
	if name == "alias/good" {
		return r.answer(nil)
	}
	if name == "alias/off" {
		return r.answer(&cloud.UnfitKey{Name: name, Why: "is in the state Disabled"})
	}
	return r.answer(&cloud.Error{Op: "look at the key", Code: "AccessDeniedException", Missing: "kms:DescribeKey"})
}

func (r *region) InstanceType(_ context.Context, name string) (cloud.Type, error) {
	return cloud.Type{Name: name, Cores: 4}, nil
}

func (r *region) Used(context.Context) (cloud.Used, error) { return r.used, nil }

func (r *region) LimitOf(_ context.Context, l cloud.Limit) (float64, error) {
	if n, ok := r.limits[l.Code]; ok {
		return n, nil
	}
	return 1000, nil
}

// nothing is known of any server.
func nothing(string) Known { return Known{} }

// small is a configuration of one server with two launch blocks, which differ in what matters to nobody.
func small() protocol.Fleet {
	return protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default", VolumeType: "gp3", PointsKeep: 3}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "m5.xlarge", Profile: "app"}, {Name: "db", InstanceType: "m5.xlarge", IngressPorts: []int{80}}},
		Servers:      []protocol.ServerSettings{{Name: "a", Replication: "default", Launch: "web"}},
	}
}

func summary(found []protocol.Finding) []string {
	var out []string
	for _, f := range found {
		out = append(out, string(f.Severity)+" "+string(f.Code)+" "+f.Message)
	}
	return out
}

// TestFindings: what is refused is critical, once for what is missing, with what it is needed for; what is not known is said.
func TestFindings(t *testing.T) {
	missing := &cloud.Error{Op: "try", Code: "UnauthorizedOperation", Missing: "iam:PassRole"}
	untried := func(why string) error { return errors.Join(cloud.ErrUntried, errors.New(why)) }
	for name, tt := range map[string]struct {
		region *region
		key    string
		want   []string // the beginning of each
	}{
		"all is well":       {region: &region{}},
		"a permission":      {region: &region{refuse: missing}, want: []string{"critical permission-missing the controller may not call iam:PassRole, which it needs for: targets of launch web"}},
		"an image":          {region: &region{refuse: &cloud.Error{Op: "find image x", Code: "InvalidAMIID.NotFound"}}, want: []string{"critical no-image find image x: InvalidAMIID.NotFound; it is needed for: targets of launch web"}},
		"a key":             {region: &region{}, key: "alias/off", want: []string{"critical kms-key KMS key alias/off is in the state Disabled; it is needed for: volumes of replication default"}},
		"a key in the dark": {region: &region{}, key: "alias/a", want: []string{"info cloud-unknown not known, because look at the key: AccessDeniedException: whether the cloud allows kms:DescribeKey"}},
		"a good key":        {region: &region{}, key: "alias/good", want: []string{"info cloud-unknown not known, because KMS says to EC2 only what the own policy of alias/good allows: whether the cloud allows kms:CreateGrant"}},
		"no answer in time": {region: &region{refuse: context.DeadlineExceeded}, want: []string{"info cloud-unknown not known, because the cloud did not answer in time: whether the cloud allows ec2:RunInstances"}},
		"nothing to try it on": {
			region: &region{own: []cloud.Trial{{Action: "ec2:A", Err: untried("no volume")}, {Action: "ec2:B", Err: untried("no volume")}}},
			want:   []string{"info cloud-unknown not known, because"},
		},
		"a quota": {
			region: &region{limits: map[string]float64{"L-1216C47A": 11}},
			want:   []string{`warning quota the quota "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances" is 11 vCPUs, of which 0 are used; what is still to be made needs 12`},
		},
		"a quota that others use": {
			region: &region{limits: map[string]float64{"L-1216C47A": 100}, used: cloud.Used{Cores: map[string]int{"L-1216C47A": 96}}},
			want:   []string{"warning quota"},
		},
		"a quota that is less than one": {region: &region{limits: map[string]float64{"L-1216C47A": 2}}, want: []string{"critical quota"}},
	} {
		f := small()
		f.Replications[0].Volumes.KMSKey = tt.key
		got := summary(New(tt.region, nothing).Findings(t.Context(), f))
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %q", name, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: got %q, want %q", name, got[i], want)
			}
		}
	}
}

// TestGoodAnswersAreKept, and bad ones are not: whoever mends something sees it at once.
func TestGoodAnswersAreKept(t *testing.T) {
	r := &region{refuse: errors.New("odd")}
	a := New(r, nothing)
	a.Findings(t.Context(), small())
	first := r.asked
	a.Findings(t.Context(), small())
	if again := r.asked - first; again != 1 {
		t.Errorf("%d questions, then %d; want the one with a bad answer", first, again)
	}
	a.Forget()
	a.Findings(t.Context(), small())
	if again := r.asked - first - 1; again != first {
		t.Errorf("forgot, and asked %d of %d questions", again, first)
	}
}

// TestEachQuestionIsAskedOnce although many launch blocks need the same.
func TestEachQuestionIsAskedOnce(t *testing.T) {
	f := small()
	few := len(questions(f, nil))
	for range 100 {
		l := f.Launches[0]
		l.Name += "x"
		f.Launches = append(f.Launches, l)
	}
	if many := len(questions(f, nil)); many > few+100 { // each has a security group of its own
		t.Errorf("%d questions of 2 launch blocks, %d of 102", few, many)
	}
}

// TestNeeds adds up what is still to be made.
func TestNeeds(t *testing.T) {
	disks := []protocol.DiskReport{{Name: "/dev/sda", SizeBytes: 100 << 30}, {Name: "/dev/sdb", SizeBytes: 300 << 30}}
	f := small()
	f.Launches[0].Disks = []protocol.LaunchDisk{{Name: "/dev/sdb", VolumeType: "st1"}}
	f.Servers = append(f.Servers, protocol.ServerSettings{Name: "b", Replication: "default", Launch: "web"}, protocol.ServerSettings{Name: "c", Replication: "default", Launch: "web"})
	servers := map[string]Known{"a": {Disks: disks}, "b": {Disks: disks, Staged: true}, "c": {Disks: disks, Staged: true, Launched: true}}
	got := needs(f, func(s string) Known { return servers[s] })
	if diff := cmp.Diff(map[string]int{"t3.small": 2, "m5.xlarge": 2}, got.instances); diff != "" {
		t.Errorf("instances: %s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"gp3": (400 + 2*100) << 30, "st1": 2 * 300 << 30}, got.storage); diff != "" {
		t.Errorf("storage: %s", diff)
	}
	if got.snapshots != 2*2*5 || got.single["gp3"] != 300<<30 {
		t.Errorf("%d snapshots, the largest gp3 volume has %d bytes", got.snapshots, got.single["gp3"])
	}
}

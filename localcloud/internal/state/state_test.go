package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/hint"
)

func TestUpdateIsAllOrNothingAndDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := s.View()
	want := &Volume{ID: "vol-1", SizeGiB: 4, Type: "gp3", Zone: "a", Created: time.Now().Round(0), Attachment: &Attachment{InstanceID: "i-1", Order: 7}}
	if err := s.Update(func(st *State) error { st.Volumes["vol-1"] = want; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(before.Volumes) != 0 {
		t.Error("a view changed under its reader")
	}
	refused := errors.New("refused")
	err = s.Update(func(st *State) error {
		delete(st.Volumes, "vol-1")
		st.Volumes["vol-2"] = &Volume{}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]*State{"in memory": s.View(), "on the disk": again.View()} {
		if diff := cmp.Diff(map[string]*Volume{"vol-1": want}, st.Volumes); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// A disk that refuses: the change did not happen.
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(st *State) error { delete(st.Volumes, "vol-1"); return nil }); err == nil {
		t.Fatal("an update without a file succeeded")
	}
	if s.View().Volumes["vol-1"] == nil {
		t.Error("a change that was not written is visible")
	}
}

func TestABrokenStateFileHints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(path, []byte(`{"Volumes": {`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}

func TestVolumesComeRootFirstThenInOrder(t *testing.T) {
	st := empty()
	in := &Instance{ID: "i-1", RootDevice: "/dev/xvda"}
	for id, a := range map[string]*Attachment{
		"c": {InstanceID: "i-1", Device: "/dev/sdg", Order: 1}, "b": {InstanceID: "i-1", Device: "/dev/sdf", Order: 3},
		"a": {InstanceID: "i-1", Device: "/dev/xvda", Order: 9}, "x": {InstanceID: "i-2", Device: "/dev/sdf", Order: 2}, "y": nil,
	} {
		st.Volumes[id] = &Volume{ID: id, Attachment: a}
	}
	var got []string
	for _, v := range st.VolumesOf(in) {
		got = append(got, v.ID)
	}
	if diff := cmp.Diff([]string{"a", "c", "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOpenPorts(t *testing.T) {
	const all = "0.0.0.0/0"
	for name, c := range map[string]struct {
		rules []Rule
		want  []int
	}{
		"nothing":              {nil, nil},
		"two rules, once each": {[]Rule{{Protocol: "tcp", From: 80, To: 81, CIDR: all}, {Protocol: "tcp", From: 81, To: 82, CIDR: all}}, []int{80, 81, 82}},
		"a wide range":         {[]Rule{{Protocol: "tcp", From: 1, To: 1000, CIDR: all}}, []int{22, 80, 443}},
		"everything":           {[]Rule{{Protocol: "-1", From: -1, To: -1, CIDR: all}}, []int{22, 80, 443, 3389, 5985, 5986, 8080}},
		"udp, members":         {[]Rule{{Protocol: "udp", From: 53, To: 53, CIDR: all}, {Protocol: "tcp", From: 22, To: 22, SourceGroup: "g"}}, nil},
	} {
		st := empty()
		st.Groups["g"] = &Group{Rules: c.rules}
		if diff := cmp.Diff(c.want, st.OpenPorts([]string{"g", "gone"})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

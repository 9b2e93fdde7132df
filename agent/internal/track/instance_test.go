package track

import "testing"

func TestMarksThatAreMadeAnewHaveAnotherName(t *testing.T) {
	loop := loopDisk(t, 16<<20)
	found, err := FindDisk(loop.Path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Disks: []Disk{found}, PinDir: pinFolder(t)}
	first := open(t, o).Status()
	skipUnpinned(t, o)
	second := open(t, o).Status()
	if first.Instance == 0 || first.Resumed || !second.Resumed || second.Instance != first.Instance {
		t.Fatalf("first %+v, resumed %+v", first, second)
	}
	if err := Remove(o.PinDir); err != nil {
		t.Fatal(err)
	}
	if third := open(t, o).Status(); third.Resumed || third.Instance == first.Instance {
		t.Fatalf("made anew: %+v, first %+v", third, first)
	}
}

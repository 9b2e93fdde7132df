package agent

import "testing"

func TestOneDiskIsTheBootDisk(t *testing.T) {
	const neither = -1
	loader, kernel, both, none := bootSigns{loader: true}, bootSigns{kernel: true}, bootSigns{loader: true, kernel: true}, bootSigns{}
	for name, tt := range map[string]struct {
		signs []bootSigns
		want  int
	}{
		"a plain one before data":                {[]bootSigns{both, none}, 0},
		"a plain one behind data":                {[]bootSigns{none, both}, 1},
		"one that is not mounted here":           {[]bootSigns{none, loader}, 1},
		"a mirror":                               {[]bootSigns{both, both}, 0},
		"a root volume group on two":             {[]bootSigns{kernel, both}, 1},
		"a data disk that once was a boot disk":  {[]bootSigns{loader, both}, 1},
		"the loader on one, the root on another": {[]bootSigns{kernel, loader}, 1},
		"a root without a loader":                {[]bootSigns{none, kernel}, 1},
		"data only":                              {[]bootSigns{none, none}, neither},
	} {
		if got := bootDisk(tt.signs); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

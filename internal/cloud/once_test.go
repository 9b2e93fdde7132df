package cloud_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"rehost/internal/cloud"
)

const (
	noSnapshots  = `<DescribeSnapshotsResponse><snapshotSet/></DescribeSnapshotsResponse>`
	oneSnapshot  = `<item><snapshotId>snap-1</snapshotId><volumeId>vol-1</volumeId><status>completed</status><startTime>2026-01-01T00:00:01Z</startTime></item>`
	lateSnapshot = `<item><snapshotId>snap-0</snapshotId><volumeId>vol-1</volumeId><status>completed</status><startTime>2026-01-01T00:00:02Z</startTime></item>`
)

var point = cloud.Tags{cloud.TagPoint: "p"}

func snapshots(items ...string) string {
	return `<DescribeSnapshotsResponse><snapshotSet>` + strings.Join(items, "") + `</snapshotSet></DescribeSnapshotsResponse>`
}

// TestASnapshotWhoseAnswerWasLostIsNotMadeTwice loses the answer, and shows the snapshot late.
func TestASnapshotWhoseAnswerWasLostIsNotMadeTwice(t *testing.T) {
	for name, lost := range map[string]func() (int, string){
		"cut": func() (int, string) { return 0, cut },
		"500": func() (int, string) {
			return http.StatusInternalServerError, refusal("InternalError", "it was done all the same")
		},
	} {
		t.Run(name, func(t *testing.T) {
			made, looks := 0, 0
			c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
				if action == "CreateSnapshot" {
					made++
					return lost()
				}
				if looks++; made == 0 || looks < 4 {
					return http.StatusOK, noSnapshots
				}
				return http.StatusOK, snapshots(lateSnapshot, oneSnapshot)
			}))
			s := must[cloud.Snapshot](t)(c.SnapshotVolume(t.Context(), "vol-1", point))
			if made != 1 || s.ID != "snap-1" {
				t.Errorf("%d were made, and %s came back; want 1, and the first", made, s.ID)
			}
		})
	}
}

// TestASnapshotThatWasNotMadeIsMadeAgain loses the call itself.
func TestASnapshotThatWasNotMadeIsMadeAgain(t *testing.T) {
	calls := 0
	c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
		if action != "CreateSnapshot" {
			return http.StatusOK, noSnapshots
		}
		if calls++; calls == 1 {
			return 0, cut
		}
		return http.StatusOK, `<CreateSnapshotResponse><snapshotId>snap-2</snapshotId><volumeId>vol-1</volumeId><status>pending</status></CreateSnapshotResponse>`
	}))
	s := must[cloud.Snapshot](t)(c.SnapshotVolume(t.Context(), "vol-1", point))
	if calls != 2 || s.ID != "snap-2" {
		t.Errorf("%d calls made %s, want 2 and snap-2", calls, s.ID)
	}
	if _, err := c.SnapshotVolume(t.Context(), "vol-1", nil); err == nil {
		t.Error("a snapshot without tags could not be found again, and was made")
	}
}

// TestARefusedSnapshotIsAskedForAgain throttles: then nothing was made, and there is nothing to look for.
func TestARefusedSnapshotIsAskedForAgain(t *testing.T) {
	calls, looks := 0, 0
	c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
		if action != "CreateSnapshot" {
			looks++
			return http.StatusOK, noSnapshots
		}
		if calls++; calls < 3 {
			return http.StatusServiceUnavailable, refusal("RequestLimitExceeded", "slow down")
		}
		return http.StatusOK, `<CreateSnapshotResponse><snapshotId>snap-2</snapshotId><volumeId>vol-1</volumeId><status>pending</status></CreateSnapshotResponse>`
	}))
	must[cloud.Snapshot](t)(c.SnapshotVolume(t.Context(), "vol-1", point))
	if calls != 3 || looks != 1 {
		t.Errorf("%d calls and %d looks, want 3 and 1", calls, looks)
	}
}

// TestAnImageWhoseAnswerWasLostIsFound repeats the call, and is told that the name is taken.
func TestAnImageWhoseAnswerWasLostIsFound(t *testing.T) {
	const image = `<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><name>n</name><imageState>available</imageState></item></imagesSet></DescribeImagesResponse>`
	calls, looks := 0, 0
	c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
		switch {
		case action == "RegisterImage" && calls == 0:
			calls++
			return 0, cut
		case action == "RegisterImage":
			calls++
			return http.StatusBadRequest, refusal("InvalidAMIName.Duplicate", "taken")
		}
		if looks++; looks < 3 {
			return http.StatusOK, `<DescribeImagesResponse><imagesSet/></DescribeImagesResponse>`
		}
		return http.StatusOK, image
	}))
	i := must[cloud.Image](t)(c.RegisterImage(t.Context(), cloud.ImageSpec{Name: "n", Root: "snap-1"}, nil))
	if i.ID != "ami-1" || calls != 2 {
		t.Errorf("got %s after %d calls", i.ID, calls)
	}
}

// TestADeviceNameThatSomeoneElseTookIsNotTheEnd attaches beside a stranger.
func TestADeviceNameThatSomeoneElseTookIsNotTheEnd(t *testing.T) {
	const item = `<item><volumeId>%</volumeId><status>in-use</status><attachmentSet><item><instanceId>i-1</instanceId><status>attached</status><device>#</device></item></attachmentSet></item>`
	describe := func(volume, device string) string {
		return `<DescribeVolumesResponse><volumeSet>` + strings.NewReplacer("%", volume, "#", device).Replace(item) + `</volumeSet></DescribeVolumesResponse>`
	}
	var asked []string
	c := openFake(t, fake(t, func(action string, form url.Values) (int, string) {
		switch {
		case action == "AttachVolume":
			asked = append(asked, form.Get("Device"))
			if len(asked) == 1 {
				return http.StatusBadRequest, refusal("InvalidParameterValue", "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use")
			}
			return http.StatusOK, `<AttachVolumeResponse/>`
		case form.Get("VolumeId.1") == "" && len(asked) == 0: // the stranger's is not visible yet
			return http.StatusOK, `<DescribeVolumesResponse/>`
		case form.Get("VolumeId.1") == "":
			return http.StatusOK, describe("vol-9", "/dev/sdf")
		case len(asked) < 2:
			return http.StatusOK, `<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId><status>available</status></item></volumeSet></DescribeVolumesResponse>`
		}
		return http.StatusOK, describe("vol-1", "/dev/sdg")
	}))
	ok(t, c.AttachVolume(t.Context(), "vol-1", "i-1", nil))
	if len(asked) != 2 || asked[1] != "/dev/sdg" {
		t.Errorf("asked for %v", asked)
	}
}

// TestAnAPIThatIsThrottledSlowsNoOtherDown throttles one API only, and times the other.
func TestAnAPIThatIsThrottledSlowsNoOtherDown(t *testing.T) {
	refused := 0
	c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
		if action == "DescribeVolumes" {
			refused++
			return http.StatusServiceUnavailable, refusal("RequestLimitExceeded", "slow down")
		}
		return http.StatusOK, noSnapshots
	}))
	done := make(chan struct{})
	go func() { _, _ = c.Volumes(t.Context(), nil); close(done) }()
	began := time.Now()
	for range 20 {
		must[[]cloud.Snapshot](t)(c.Snapshots(t.Context(), point))
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 looks at snapshots took %s while volumes were throttled", took)
	}
	select {
	case <-done:
		t.Error("the throttled call has ended already")
	default:
	}
}

func TestTheFirstUsableSnapshotCounts(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	found := cloud.FirstOfEach([]cloud.Snapshot{
		{ID: "snap-4", Volume: "vol-1", State: "pending", Started: at(4)},
		{ID: "snap-2", Volume: "vol-1", State: "completed", Started: at(2)},
		{ID: "snap-1", Volume: "vol-1", State: "error", Started: at(1)},
		{ID: "snap-3", Volume: "vol-1", State: "completed", Started: at(2)},
		{ID: "snap-5", Volume: "vol-2", State: "error", Started: at(1)},
	})
	if found["vol-1"].ID != "snap-2" || found["vol-2"].ID != "snap-5" || len(found) != 2 {
		t.Errorf("found %+v", found)
	}
}

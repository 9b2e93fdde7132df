package cloud_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/internal/hint"
)

// attachment is what EC2 shows of vol-1 at one look: an instance and a state; the zero value is none.
type attachment struct{ instance, state string }

func (a attachment) volume() string {
	if a == (attachment{}) {
		return describe("available", "")
	}
	return describe("in-use", fmt.Sprintf(`<item><instanceId>%s</instanceId><status>%s</status><device>/dev/sdf</device></item>`, a.instance, a.state))
}

func describe(state, attachments string) string {
	return `<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId><status>` + state + `</status><attachmentSet>` + attachments +
		`</attachmentSet></item></volumeSet></DescribeVolumesResponse>`
}

// plays shows one look after the other, the last one for ever, and answers a change by its function. It notes the changes.
func plays(t *testing.T, looks []attachment, change func(action string) (int, string)) (*cloud.Client, *[]string) {
	t.Helper()
	var changes []string
	return openFake(t, fake(t, func(action string, form url.Values) (int, string) {
		switch {
		case action != "DescribeVolumes":
			changes = append(changes, action)
			return change(action)
		case form.Get("VolumeId.1") == "": // those of an instance
			return http.StatusOK, `<DescribeVolumesResponse><volumeSet/></DescribeVolumesResponse>`
		}
		look := looks[0]
		looks = looks[min(1, len(looks)-1):]
		return http.StatusOK, look.volume()
	})), &changes
}

func agrees(action string) (int, string) {
	return http.StatusOK, "<" + action + "Response><return>true</return></" + action + "Response>"
}

// soon ends a wait that would not end.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAVolumeIsAttachedWhateverHappenedBefore(t *testing.T) {
	none, attaching, attached := attachment{}, attachment{"i-1", "attaching"}, attachment{"i-1", "attached"}
	for name, tt := range map[string]struct {
		looks []attachment
		want  []string // changes
	}{
		"free":                               {[]attachment{none, none, attaching, attached}, []string{"AttachVolume"}},
		"attached already":                   {[]attachment{attached}, nil},
		"an attachment goes on":              {[]attachment{attaching, attaching, attached}, nil},
		"another one's detachment goes on":   {[]attachment{{"i-0", "detaching"}, {"i-0", "detaching"}, none, attaching, attached}, []string{"AttachVolume"}},
		"its own detachment goes on":         {[]attachment{{"i-1", "detaching"}, {"i-1", "detaching"}, none, attaching, attached}, []string{"AttachVolume"}},
		"somebody detaches it in the middle": {[]attachment{none, none, attaching, none, attaching, attached}, []string{"AttachVolume", "AttachVolume"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, changes := plays(t, tt.looks, agrees)
			ok(t, c.AttachVolume(soon(t), "vol-1", "i-1", nil))
			if diff := cmp.Diff(tt.want, *changes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAVolumeThatAnotherInstanceHasIsRefused sees it before, and after an attachment that lost a race.
func TestAVolumeThatAnotherInstanceHasIsRefused(t *testing.T) {
	for _, looks := range [][]attachment{{{"i-0", "attached"}}, {{}, {}, {"i-0", "attached"}}} {
		c, _ := plays(t, slices.Clone(looks), func(string) (int, string) {
			return http.StatusBadRequest, refusal("VolumeInUse", "vol-1 is already attached to an instance")
		})
		err := c.AttachVolume(soon(t), "vol-1", "i-1", nil)
		if err == nil || !strings.Contains(err.Error(), "i-0") || hint.Of(err) == "" {
			t.Errorf("looks %v: got %v, hint %q", looks, err, hint.Of(err))
		}
	}
}

func TestAnInstanceThatEndedTakesNoVolume(t *testing.T) {
	c, _ := plays(t, []attachment{{}}, func(string) (int, string) {
		return http.StatusBadRequest, refusal("IncorrectState", "Instance 'i-1' is not 'running'.")
	})
	if err := c.AttachVolume(soon(t), "vol-1", "i-1", nil); err == nil || !strings.Contains(err.Error(), "IncorrectState") {
		t.Errorf("got %v", err)
	}
}

// TestAVolumeIsDetachedWhateverHappenedBefore has the attachment still going on when it is to end: EC2 refuses then.
func TestAVolumeIsDetachedWhateverHappenedBefore(t *testing.T) {
	calls := 0
	c, _ := plays(t, []attachment{{"i-1", "attaching"}, {"i-1", "attached"}, {"i-1", "detaching"}, {"i-1", "detaching"}, {}}, func(action string) (int, string) {
		if calls++; calls == 1 {
			return http.StatusBadRequest, refusal("IncorrectState", "Volume 'vol-1' is in the 'attaching' state.")
		}
		return agrees(action)
	})
	ok(t, c.DetachVolume(soon(t), "vol-1", nil))
	if calls != 2 {
		t.Errorf("it was asked for %d times, want 2", calls)
	}
}

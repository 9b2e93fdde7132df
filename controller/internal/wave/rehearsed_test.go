package wave

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestARehearsalCountsForWhatItWasOf(t *testing.T) {
	passed := protocol.JobApplication{Name: "shop", Servers: []string{"web-1"}, Outcome: protocol.OutcomePassed}
	failed := protocol.JobApplication{Name: "mail", Servers: []string{"mx-1"}, Outcome: protocol.OutcomeFailed, Why: "mx-1 failed at check: no answer"}
	rehearsal := func(id string, ended time.Time, of map[string]string, apps ...protocol.JobApplication) protocol.Job {
		return protocol.Job{
			ID: id, Kind: protocol.JobTest, Of: protocol.Selection{Wave: "first"}, Status: protocol.JobCompleted, Ended: ended,
			Rehearsal: &protocol.Rehearsal{Of: of}, Applications: apps,
		}
	}
	cancelled := rehearsal("r-9", minutes(50), nil)
	cancelled.Status = protocol.JobCancelled
	of := map[string]string{"server web-1": "a"}
	test := protocol.Job{ID: "test", Kind: protocol.JobTest, Of: protocol.Selection{Wave: "first"}, Status: protocol.JobCompleted, Ended: minutes(55)}
	for name, tt := range map[string]struct {
		jobs []protocol.Job
		want string
	}{
		"passed":              {[]protocol.Job{rehearsal("r-1", minutes(10), nil, failed), rehearsal("r-2", minutes(40), of, passed), cancelled, test}, ""},
		"never":               {[]protocol.Job{test, cancelled}, "the wave was never rehearsed to its end"},
		"too old":             {[]protocol.Job{rehearsal("r-1", minutes(-70), of, passed)}, "its newest rehearsal, r-1, is 2h10m old"},
		"failed":              {[]protocol.Job{rehearsal("r-1", minutes(40), of, passed), rehearsal("r-2", minutes(41), of, passed, failed)}, "its newest rehearsal, r-2, failed: application mail: mx-1 failed at check: no answer"},
		"changed":             {[]protocol.Job{rehearsal("r-1", minutes(40), map[string]string{"server web-1": "b", "check page": "c"}, passed)}, "changed since its newest rehearsal, r-1: check page, server web-1"},
		"of what is over now": {[]protocol.Job{rehearsal("r-1", minutes(40), of, passed, protocol.JobApplication{Servers: []string{"old-1"}})}, ""},
	} {
		e := Evidence{Wave: "first", Of: map[string]string{"server web-1": "a", "wave first": "x"}, Rehearsal: NewestRehearsal(tt.jobs, "first")}
		g := Judge(protocol.GateSettings{Rehearsed: 2 * time.Hour}, []Facts{{Server: "web-1"}, {Server: "mx-1"}}, e, 0, minutes(60))
		if len(g) != 1 || g[0].Why != tt.want || g[0].Open != (tt.want == "") || (g[0].Hint == "") != g[0].Open {
			t.Errorf("%s: got %+v, want %q", name, g, tt.want)
		}
	}
}

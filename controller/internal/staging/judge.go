package staging

import (
	"fmt"
	"time"
)

// Evidence is what is known of a replication server that has not reported lately.
type Evidence struct {
	Silent   time.Duration // since its last report, or since this controller began to listen
	Heard    bool          // it has reported once, ever
	Bus      bool          // somebody else was heard of meanwhile: the silence is not the bus's
	Instance string        // its instance's state; empty: the cloud was not asked, or did not say
	Gone     bool          // its instance has ended, or does not exist
	Impaired string        // what the cloud's own checks of the instance have found
}

// Verdict returns why a replication server counts as dead, or "" while it does not. One missed report never suffices:
// lost is the silence from which on it counts as missing, after the one after which its instance's state does not matter.
//
// An instance that has ended does not come back, so nothing is gained by waiting. One that runs may only be restarting,
// or be cut off: it gets the whole time. A silence counts only when others are heard of, since replacing every
// replication server because the bus was away would make a small fault a large one. One that never reported is not
// replaced for its silence: the next one would be as silent, for the same reason, and that is for a person to see.
func Verdict(e Evidence, lost, after time.Duration) string {
	silent := e.Silent.Round(time.Second)
	switch {
	case e.Silent <= lost:
		return ""
	case e.Gone && e.Instance == "":
		return "its instance does not exist any more"
	case e.Gone:
		return "its instance is " + e.Instance
	case e.Impaired != "":
		return fmt.Sprintf("no report for %s, and its instance is impaired: %s", silent, e.Impaired)
	case after > 0 && e.Heard && e.Bus && e.Silent > after:
		return fmt.Sprintf("no report for %s", silent)
	}
	return ""
}

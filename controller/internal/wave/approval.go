package wave

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/protocol"
)

// Evidence is what is known of a wave as a whole before its cutover.
type Evidence struct {
	Wave      string
	Asker     string              // who starts the cutover, or looks at what would be if they did
	Approvals []protocol.Approval // of the wave
	Holders   map[string][]string // of each role, sorted
	Of        map[string]string   // what an approval given now would be for
	Rehearsal *protocol.Job       // the newest one of the wave that has ended and was not cancelled
	Answers   map[string]string   // of commands, pages and the cloud, by the gate's name: why it is closed, or "" when it is not; absent: nobody asked
}

// Approved digests each block that the cutover of a wave is made of, by kind and name. Replication blocks are left out: how blocks
// travel may be tuned until the last minute, and has no part in what the cutover does.
func Approved(f protocol.Fleet, name string) (map[string]string, error) {
	plan, err := Of(f, name)
	if err != nil {
		return nil, err
	}
	w := Settings(f, name)
	out := map[string]string{"wave " + name: digest(w)}
	launches, checks, actions := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, a := range f.Applications {
		if slices.Contains(w.Applications, a.Name) {
			out["application "+a.Name] = digest(a)
		}
	}
	for _, s := range f.Servers {
		if !slices.Contains(plan.Servers, s.Name) {
			continue
		}
		out["server "+s.Name] = digest(s)
		launches[s.Launch] = true
		for _, c := range s.Checks {
			checks[c] = true
		}
		for _, a := range s.Actions {
			actions[a] = true
		}
	}
	for _, l := range f.Launches {
		if launches[l.Name] {
			out["launch "+l.Name] = digest(l)
		}
	}
	for _, c := range f.Checks {
		if checks[c.Name] {
			out["check "+c.Name] = digest(c)
		}
	}
	for _, a := range f.Actions {
		if actions[a.Name] {
			out["action "+a.Name] = digest(a)
		}
	}
	return out, nil
}

// digest of a block: enough bits to tell that it was changed. Nobody gains by a forged one, who could apply it.
func digest(block any) string {
	text, err := json.Marshal(block)
	if err != nil {
		return "" // settings are plain values
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// changed names the blocks that are not what they were, "" when all are.
func changed(before, now map[string]string) string {
	all := maps.Clone(before)
	maps.Copy(all, now)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before[name] != now[name] {
			names = append(names, name)
		}
	}
	if n := len(names) - toldOf; n > 0 {
		names = append(names[:toldOf], fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

// Void says why an approval does not count, or "".
func (e Evidence) Void(a protocol.Approval, s protocol.GateSettings, now time.Time) string {
	i := slices.IndexFunc(s.Approvals, func(want protocol.ApprovalSettings) bool { return want.Role == a.Role })
	switch age := now.Sub(a.At); {
	case !a.Withdrawn.IsZero():
		return "withdrawn: " + a.Why
	case i < 0:
		return "the wave asks for no approval by a " + a.Role
	case !slices.Contains(e.Holders[a.Role], a.Operator):
		return a.Operator + " does not have the role any more"
	case changed(a.Of, e.Of) != "":
		return "changed since: " + changed(a.Of, e.Of)
	case s.Approvals[i].Valid > 0 && age > s.Approvals[i].Valid:
		return "it is " + short(age) + " old, and counts for " + short(s.Approvals[i].Valid)
	}
	return ""
}

// approvals judges all approval gates of a wave.
func (e Evidence) approvals(s protocol.GateSettings, now time.Time) []protocol.Gate {
	var out []protocol.Gate
	counted := map[string]string{} // with four eyes: the role that a person counts for
	for _, want := range s.Approvals {
		var by, why []string
		for _, a := range e.Approvals {
			if a.Role != want.Role {
				continue
			}
			void := e.Void(a, s, now)
			switch role := counted[a.Operator]; {
			case void != "":
				why = append(why, "that of "+a.Operator+" is void ("+void+")")
			case want.FourEyes && a.Operator == e.Asker:
				why = append(why, "that of "+a.Operator+" does not count, who would start the cutover too")
			case want.FourEyes && role != "":
				why = append(why, "that of "+a.Operator+" counts as "+role+" already")
			default:
				by = append(by, a.Operator)
				if want.FourEyes {
					counted[a.Operator] = want.Role
				}
			}
		}
		g := protocol.Gate{Name: "approval " + want.Role, Want: wanted(want), Open: len(by) >= want.Count}
		if !g.Open {
			g.Why = strings.Join(append([]string{fmt.Sprintf("%d of %d approvals", len(by), want.Count)}, why...), "; ")
			g.Hint = e.hint(want, append(by, e.Asker))
		}
		out = append(out, g)
	}
	return out
}

func wanted(s protocol.ApprovalSettings) string {
	who := "a " + s.Role + " approves it"
	if s.Count > 1 {
		who = fmt.Sprintf("%d people who are %s approve it", s.Count, s.Role)
	}
	if s.FourEyes {
		who += ", who is not the one that starts it"
	}
	return who
}

// hint says who can approve: holders of the role except those whose word counts, or cannot.
func (e Evidence) hint(s protocol.ApprovalSettings, except []string) string {
	who := slices.DeleteFunc(slices.Clone(e.Holders[s.Role]), func(name string) bool { return slices.Contains(except, name) && (s.FourEyes || name != e.Asker) })
	if len(who) == 0 {
		return "give somebody else the role, on the controller's machine: rehost admin operator NAME --role " + s.Role
	}
	if n := len(who) - toldOf; n > 0 {
		who = append(who[:toldOf], fmt.Sprintf("%d more", n))
	}
	return fmt.Sprintf("one of %s runs: rehost wave approve %s --role %s --reason TEXT", strings.Join(who, ", "), e.Wave, s.Role)
}

// NeverApproved says why the approvals of a wave can never be complete, as the roles are given out now, or "".
func NeverApproved(s protocol.GateSettings, holders map[string][]string) string {
	people, need := map[string]bool{}, 0
	for _, want := range s.Approvals {
		has := holders[want.Role]
		if len(has) < want.Count {
			return fmt.Sprintf("it needs %s of role %s, and %d have it", approvalsOf(want.Count), want.Role, len(has))
		}
		if want.FourEyes {
			need += want.Count
			for _, name := range has {
				people[name] = true
			}
		}
	}
	if len(people) < need {
		return fmt.Sprintf("it needs %s with four eyes, and %d have the roles", approvalsOf(need), len(people))
	}
	return ""
}

func approvalsOf(n int) string {
	if n == 1 {
		return "1 approval"
	}
	return fmt.Sprintf("%d approvals", n)
}

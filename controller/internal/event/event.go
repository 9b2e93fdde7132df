// Package event tells what happened: it makes CloudEvents of what records say of themselves, in a stream of the bus. It decides
// nothing, and nothing waits for it.
//
// What happened is written into the record that it happens to, in the same write: a server's transitions, a job's log. So an event comes
// after its record, and each that is recorded comes at least once: after a restart those that are not known to be told are told again,
// under the same id.
package event

import (
	"encoding/json"
	"fmt"
	"slices"

	"rehost/protocol"
)

// Kinds of records that events come from.
const (
	kindServer = "server"
	kindJob    = "job"
)

// numbered is an event with its number among those of its record.
type numbered struct {
	protocol.Event
	number int64
}

// ofServer returns what happened to a server after what was told, oldest first.
func ofServer(r protocol.Server, told int64) ([]numbered, error) {
	var out []numbered
	for _, t := range r.Transitions {
		n := t.Number()
		if n <= told {
			continue
		}
		data, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encode an event of server %s: %w", r.Name, err)
		}
		e := event(kindServer, r.Name, n, data)
		e.Type, e.Subject, e.Time = typeOf(t), r.Name, t.At
		out = append(out, e)
	}
	return out, nil
}

func typeOf(t protocol.Transition) string {
	if t.What == protocol.TransitionReplication {
		return protocol.EventReplication
	}
	return protocol.EventLifecycle
}

// ofJob returns the entries of a job's log after those that were told, oldest first.
func ofJob(j protocol.Job, told int64) ([]numbered, error) {
	var out []numbered
	for i := int(min(told, int64(len(j.Log)))); i < len(j.Log); i++ {
		entry := j.Log[i]
		data, err := json.Marshal(protocol.JobEventData{Job: j.ID, Kind: j.Kind, Of: j.Of, JobEvent: entry})
		if err != nil {
			return nil, fmt.Errorf("encode an event of job %s: %w", j.ID, err)
		}
		e := event(kindJob, j.ID, int64(i)+1, data)
		e.Type, e.Subject, e.Time = protocol.JobEventType(entry.Event), entry.Server, entry.At.UTC()
		out = append(out, e)
	}
	return out, nil
}

func event(kind, name string, number int64, data []byte) numbered {
	return numbered{protocol.Event{
		SpecVersion: "1.0", ID: protocol.EventID(kind, name, number), Source: "/rehost/" + kind + "s/" + name,
		DataContentType: "application/json", Data: data,
	}, number}
}

// inOrder brings the events of several records into the order in which they happened. Those of one record stay in theirs.
func inOrder(all []numbered) {
	slices.SortStableFunc(all, func(a, b numbered) int { return a.Time.Compare(b.Time) })
}

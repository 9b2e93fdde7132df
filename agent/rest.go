package agent

import (
	"reflect"
	"slices"
	"time"

	"rehost/protocol"
)

// restEvery is how often an agent that has nothing new to say reports all the same. A controller calls an agent lost after 15 s, which is several lost
// reports more.
const restEvery = 3 * time.Second

// rest remembers the report that the controller has, so that it is not told the same each second by each of a thousand agents.
type rest struct {
	last protocol.AgentReport
	at   time.Time
}

// told notes that the controller has a report.
func (r *rest) told(rep protocol.AgentReport) { *r = rest{last: lasting(rep), at: rep.At} }

// forget makes the next report due: the controller may not have the last one.
func (r *rest) forget() { *r = rest{} }

// due says that a report has something new, or that it is time to be heard.
func (r *rest) due(rep protocol.AgentReport) bool {
	return rep.At.Sub(r.at) >= restEvery || !reflect.DeepEqual(r.last, lasting(rep))
}

// lasting leaves out what differs in each report although nothing has happened: its time, and averages over a quarter of an hour.
func lasting(rep protocol.AgentReport) protocol.AgentReport {
	rep.At = time.Time{}
	rep.Disks = slices.Clone(rep.Disks)
	for i := range rep.Disks {
		rep.Disks[i].WriteRate = 0
	}
	return rep
}

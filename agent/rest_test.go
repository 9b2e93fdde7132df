package agent

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestWhatIsNewIsReportedAtOnce(t *testing.T) {
	began := time.Now()
	at := func(after time.Duration, changes ...func(*protocol.AgentReport)) protocol.AgentReport {
		rep := protocol.AgentReport{
			Server: "web-1", Replication: protocol.ReplicationContinuous, At: began.Add(after),
			Disks: []protocol.DiskReport{{Name: "/dev/sda", SizeBytes: 1 << 30}},
		}
		for _, change := range changes {
			change(&rep)
		}
		return rep
	}
	average := func(rep *protocol.AgentReport) { rep.Disks[0].WriteRate = 4096 }
	written := func(rep *protocol.AgentReport) { rep.Disks[0].Need = 65536 }
	fenced := func(rep *protocol.AgentReport) { rep.Fenced = true }

	var r rest
	if !r.due(at(0)) {
		t.Error("the first report is not due")
	}
	r.told(at(0))
	for name, c := range map[string]struct {
		rep  protocol.AgentReport
		want bool
	}{
		"nothing has happened":     {at(time.Second), false},
		"an average moves by time": {at(2*time.Second, average), false},
		"written to":               {at(time.Second, written), true},
		"fenced":                   {at(time.Second, fenced), true},
		"heard of at rest too":     {at(restEvery), true},
	} {
		if got := r.due(c.rep); got != c.want {
			t.Errorf("%s: due %v, want %v", name, got, c.want)
		}
	}
	r.told(at(time.Second, written))
	if !r.due(at(2 * time.Second)) {
		t.Error("that all is sent is not reported")
	}
	r.told(at(2 * time.Second))
	r.forget()
	if !r.due(at(3 * time.Second)) {
		t.Error("a report that the controller may not have is not repeated")
	}
}

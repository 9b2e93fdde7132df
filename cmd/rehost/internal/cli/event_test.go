package cli

import (
	"context"
	"encoding/json"
	"time"

	"rehost/protocol"
)

// events has two pages: of a server, and of a job.
func (f *fake) events(_ context.Context, req protocol.EventsRequest) (protocol.EventsReply, error) {
	made := func(id, source, kind, server string, data any) protocol.Event {
		text, _ := json.Marshal(data)
		return protocol.Event{SpecVersion: "1.0", ID: id, Source: source, Type: kind, Subject: server, Time: epoch, DataContentType: "application/json", Data: text}
	}
	of := protocol.JobEventData{Job: "test-1", Kind: protocol.JobTest, Of: protocol.Selection{Wave: "first"}}
	start, failed := of, of
	start.JobEvent = protocol.JobEvent{At: epoch, Event: protocol.EventJobStart, Detail: "START_TEST of wave first"}
	failed.JobEvent = protocol.JobEvent{At: epoch, Event: protocol.EventCheckFail, Server: "web-1", Detail: "check", Error: "page: no answer\nat all", Took: 90 * time.Second}
	all := []protocol.Event{
		made("server-web-1-1", "/rehost/servers/web-1", protocol.EventLifecycle, "web-1", protocol.Transition{At: epoch, What: protocol.TransitionLifecycle, To: "NOT_READY"}),
		made("job-test-1-1", "/rehost/jobs/test-1", protocol.JobEventType(start.Event), "", start),
		made("server-web-1-2", "/rehost/servers/web-1", protocol.EventLifecycle, "web-1", protocol.Transition{At: epoch, What: protocol.TransitionLifecycle, From: "READY_FOR_TEST", To: "TESTING", Job: "test-1"}),
		made("job-test-1-2", "/rehost/jobs/test-1", protocol.JobEventType(failed.Event), "web-1", failed),
	}
	reply := protocol.EventsReply{Events: []protocol.Event{}, Next: uint64(len(all))}
	for i, e := range all {
		place := uint64(i) + 1
		if place <= req.After || req.Server != "" && e.Subject != req.Server || len(req.Types) > 0 && !e.Is(req.Types[0]) {
			continue
		}
		if reply.Events = append(reply.Events, e); len(reply.Events) == 2 && i < 3 {
			reply.Next, reply.More = place, true
			break
		}
	}
	return reply, nil
}

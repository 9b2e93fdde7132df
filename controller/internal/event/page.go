package event

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"rehost/internal/bus"
	"rehost/protocol"
)

const (
	// pageEvents bounds what one request reads; it keeps a page below the bus's largest message.
	pageEvents = 200
	maxTypes   = 50
)

// Page returns the events after a place in the stream, oldest first.
func (p *Publisher) Page(ctx context.Context, req protocol.EventsRequest) (protocol.EventsReply, error) {
	reply := protocol.EventsReply{Events: []protocol.Event{}, Next: req.After}
	if problem := refused(req); problem != nil {
		return reply, problem
	}
	from := bus.From{After: req.After, Since: req.Since}
	if req.Server != "" {
		from.Subject = protocol.ServerEventSubjects(req.Server)
	}
	messages, err := bus.Page(ctx, p.stream, from, pageEvents)
	if err != nil {
		return reply, err
	}
	for _, m := range messages {
		var e protocol.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return reply, fmt.Errorf("read event %d: %w", m.Place, err)
		}
		if reply.Next = m.Place; wanted(e, req.Types) {
			reply.Events = append(reply.Events, e)
		}
	}
	reply.More = len(messages) == pageEvents
	return reply, nil
}

func refused(req protocol.EventsRequest) *protocol.Problem {
	if req.Server != "" && protocol.CheckName(req.Server) != nil {
		return &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("%q is no name of a server", req.Server), Hint: "rehost status lists the servers"}
	}
	if len(req.Types) > maxTypes {
		return &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("%d types of events are asked for", len(req.Types)), Hint: fmt.Sprintf("name at most %d, or leave them out", maxTypes)}
	}
	if i := slices.IndexFunc(req.Types, func(t string) bool { return !protocol.CheckEventPattern(t) }); i >= 0 {
		return &protocol.Problem{
			Code: protocol.ProblemInvalid, Message: fmt.Sprintf("%q is no type of event", req.Types[i]), Hint: "such as server.lifecycle, job.job_end, server.* or job.*; docs/protocol.md lists them",
		}
	}
	return nil
}

// wanted says whether an event is of one of the types; none: of any.
func wanted(e protocol.Event, types []string) bool {
	return len(types) == 0 || slices.ContainsFunc(types, e.Is)
}

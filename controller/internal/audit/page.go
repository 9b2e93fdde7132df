package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rehost/internal/bus"
	"rehost/protocol"
)

const (
	// pageMessages bounds what one request reads; a request and its result are two messages. With entries of at most 75 KiB it also
	// keeps a page below the bus's largest message.
	pageMessages = 100
	// openFor is how long a request may take: one without a result after that never gets one.
	openFor = time.Minute
)

// Page returns the entries after an id, oldest first. It ends before a request that is being handled: that one is on the next page.
func (l *Log) Page(ctx context.Context, req protocol.AuditRequest) (protocol.AuditReply, error) {
	reply := protocol.AuditReply{Entries: []protocol.AuditEntry{}, Next: req.After}
	messages, last, err := l.read(ctx, req)
	if err != nil || len(messages) == 0 {
		return reply, err
	}
	reply.More = len(messages) == pageMessages
	entries := join(messages)
	for i, e := range entries {
		if e.Result != "" {
			continue
		}
		if young := time.Since(e.At) < openFor; young || reply.More && i > 0 { // its result may follow
			entries, last, reply.More = entries[:i], e.ID-1, reply.More && !young
			break
		}
		entries[i].Result = protocol.AuditUnknown
	}
	reply.Next = max(last, req.After)
	for _, e := range entries {
		if !e.At.Before(req.Since) && (req.Server == "" || slices.Contains(e.Servers, req.Server)) { // a restored entry is younger in the stream
			reply.Entries = append(reply.Entries, e)
		}
	}
	return reply, nil
}

type numbered struct {
	message
	id uint64
}

// read returns the next messages of the stream and the id of the last one.
func (l *Log) read(ctx context.Context, req protocol.AuditRequest) (out []numbered, last uint64, err error) {
	messages, err := bus.Page(ctx, l.stream, bus.From{After: req.After, Since: req.Since}, pageMessages)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range messages {
		n := numbered{id: m.Place}
		if err := json.Unmarshal(m.Data, &n.message); err != nil {
			return nil, 0, fmt.Errorf("read entry %d of the audit log: %w", n.id, err)
		}
		out, last = append(out, n), n.id
	}
	return out, last, nil
}

// join puts requests and results together. A result whose request is on an earlier page is dropped: that page did not end before it
// was known that there would be none.
func join(messages []numbered) []protocol.AuditEntry {
	var entries []protocol.AuditEntry
	at := map[uint64]int{}
	for _, m := range messages {
		if m.Of == 0 {
			m.Entry.ID = m.id
			at[m.id] = len(entries)
			entries = append(entries, m.Entry)
			continue
		}
		i, ok := at[m.Of]
		if !ok {
			continue
		}
		e := &entries[i]
		e.Result, e.Problem, e.Took = m.Entry.Result, m.Entry.Problem, m.Entry.Took
		e.Servers = append(e.Servers, m.Entry.Servers...)
		slices.Sort(e.Servers)
		e.Servers = slices.Compact(e.Servers)
	}
	return entries
}

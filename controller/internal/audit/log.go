// Package audit keeps who asked the controller for what, when and why, and what became of it, in a stream of the bus. It neither
// judges requests nor knows what they mean: what it can tell of one is in its text.
//
// A request is written down before it is handled, and its result afterwards: one that cannot be written down is not handled.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// writeWithin bounds how long a request waits for the log. The result of one that was handled is written even when the controller is
// told to end.
const writeWithin = 2 * time.Second

// message is what the stream holds: a request, or the result of an earlier one.
type message struct {
	Of    uint64              `json:"of,omitempty"` // 0: a request; else the id of the request that this is the result of
	Entry protocol.AuditEntry `json:"entry"`        // of a result: what was not known before
}

// Log is the audit log.
type Log struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	log    hclog.Logger
}

// Open makes sure that the log exists.
func Open(ctx context.Context, js jetstream.JetStream, log hclog.Logger) (*Log, error) {
	stream, err := bus.EnsureAudit(ctx, js)
	if err != nil {
		return nil, err
	}
	return &Log{js: js, stream: stream, log: log}, nil
}

// Keep makes an endpoint write down its requests, except those for which reads says that they change nothing. The operator is who
// the bus let in: the last token of the subject.
func (l *Log) Keep(e bus.Endpoint, operator func(context.Context) string, reads func(body []byte) bool) bus.Endpoint {
	return e.Around(func(ctx context.Context, body []byte, next func() (any, error)) (any, error) {
		if reads(body) {
			return next()
		}
		began := time.Now()
		entry := describe(body)
		entry.At, entry.Operator, entry.Verb = began, operator(ctx), e.Name
		if entry.Reason == "" {
			entry.Reason = cut(bus.Reason(ctx), maxReason)
		}
		id, err := l.write(ctx, message{Entry: entry})
		if err != nil {
			return nil, &protocol.Problem{
				Code: protocol.ProblemInternal, At: began, Message: fmt.Sprintf("%s is not done: it cannot be written to the audit log: %v", e.Name, err),
				Hint: "look at the space on the controller's disk, and at its log",
			}
		}
		reply, err := next()
		l.conclude(ctx, id, entry, reply, err)
		return reply, err
	})
}

// conclude writes the result of a request. That it could not be written is told in the log: the entry then says that it is not known.
func (l *Log) conclude(ctx context.Context, id uint64, entry protocol.AuditEntry, reply any, err error) {
	result := protocol.AuditEntry{Result: protocol.AuditDone, Took: time.Since(entry.At), Servers: serversOf(reply)}
	if err != nil {
		p, told := errors.AsType[*protocol.Problem](err)
		if !told {
			p = &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error(), Hint: hint.Of(err), At: time.Now()}
		}
		result.Result, result.Problem = protocol.AuditRefused, p
	}
	if _, err := l.write(ctx, message{Of: id, Entry: result}); err != nil {
		l.log.Error("the result of a request is not in the audit log", "request", id, "verb", entry.Verb, "operator", entry.Operator, "result", result.Result, "error", err)
	}
}

func (l *Log) write(ctx context.Context, m message) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWithin)
	defer cancel()
	text, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	ack, err := l.js.Publish(ctx, protocol.AuditSubject, text, jetstream.WithExpectStream(protocol.AuditStream))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

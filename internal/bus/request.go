package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"rehost/internal/hint"
	"rehost/protocol"
)

// requestTimeout bounds a request whose ctx has no deadline.
const requestTimeout = 5 * time.Second

// Request sends req ([Encode]) and decodes the reply. When the other side answers with a problem,
// the error is a *protocol.Problem; when nothing answers, the error says so and carries a hint.
func Request[Req, Reply any](ctx context.Context, nc *nats.Conn, subject string, req Req) (Reply, error) {
	var reply Reply
	body, err := Encode(req)
	if err != nil {
		return reply, fmt.Errorf("encode the request for %s: %w", subject, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	msg, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: body, Header: reasonHeader(ctx)})
	if err != nil {
		err = fmt.Errorf("ask the controller: %w", fits(err, len(body), nc.MaxPayload()))
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) {
			err = hint.Wrap(err, "check that the controller runs: systemctl status rehost-controller, or rehost dev")
		}
		return reply, err
	}
	if msg.Header.Get(micro.ErrorCodeHeader) != "" {
		return reply, problemOf(msg)
	}
	if err := Decode(msg.Data, &reply); err != nil {
		return reply, fmt.Errorf("decode the reply of %s: %w", subject, err)
	}
	return reply, nil
}

func problemOf(msg *nats.Msg) error {
	var p protocol.Problem
	if err := json.Unmarshal(msg.Data, &p); err != nil || p.Code == "" {
		p = protocol.Problem{Code: protocol.ProblemInternal, Message: msg.Header.Get(micro.ErrorHeader)}
	}
	return hint.Wrap(&p, p.Hint)
}

// Endpoint is one subject that a service answers.
type Endpoint struct {
	Name    string
	Subject string // may hold wildcards; the handler asks [Subject] for the concrete one
	handle  func(ctx context.Context, body []byte) (any, error)
	later   func(ctx context.Context, body []byte, reply func(any)) error // instead of handle
	slots   chan struct{}                                                 // of requests that are handled at once; nil: one after the other
	may     func() error                                                  // requests are left unanswered when it says an error; nil: none is
}

// Around makes fn handle the endpoint's requests: it gets the request as it came, and next, which is what handles it otherwise.
func (e Endpoint) Around(fn func(ctx context.Context, body []byte, next func() (any, error)) (any, error)) Endpoint {
	handle := e.handle
	e.handle = func(ctx context.Context, body []byte) (any, error) {
		return fn(ctx, body, func() (any, error) { return handle(ctx, body) })
	}
	return e
}

// AtOnce lets an endpoint handle up to n requests at once, for what waits for somebody else. The others wait in their order.
func (e Endpoint) AtOnce(n int) Endpoint {
	e.slots = make(chan struct{}, n)
	return e
}

// Only leaves requests unanswered that come when may says an error: somebody else answers them.
func (e Endpoint) Only(may func() error) Endpoint {
	e.may = may
	return e
}

// Wait waits until no request of an [Endpoint.AtOnce] is being handled, and lets none in any more. Call it once, when the ctx of
// [Serve] has ended.
func (e Endpoint) Wait() {
	for range cap(e.slots) {
		e.slots <- struct{}{}
	}
}

type subjectKey struct{}

// Subject returns the subject on which the request being handled came. Its last token is the
// sender's identity where permissions make it so.
func Subject(ctx context.Context) string {
	s, _ := ctx.Value(subjectKey{}).(string)
	return s
}

// Sender returns the last token of the subject: who sent the request, where permissions make it so.
func Sender(ctx context.Context) string {
	s := Subject(ctx)
	return s[strings.LastIndexByte(s, '.')+1:]
}

// Handle makes an endpoint from a typed function. An error of the function travels as a
// [protocol.Problem]; one that is a *protocol.Problem travels as it is.
func Handle[Req, Reply any](name, subject string, fn func(ctx context.Context, req Req) (Reply, error)) Endpoint {
	return Endpoint{Name: name, Subject: subject, handle: func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if len(body) > 0 {
			if err := json.Unmarshal(body, &req); err != nil {
				return nil, &protocol.Problem{Code: protocol.ProblemInvalid, Message: "decode the request: " + err.Error()}
			}
		}
		return fn(ctx, req)
	}}
}

// HandleLater makes an endpoint from a function that may answer after it has returned: it sees to it that reply is called
// once, from any goroutine. What went wrong is part of such a reply.
func HandleLater[Req, Reply any](name, subject string, fn func(ctx context.Context, req Req, reply func(Reply))) Endpoint {
	return Endpoint{Name: name, Subject: subject, later: func(ctx context.Context, body []byte, reply func(any)) error {
		var req Req
		if err := json.Unmarshal(body, &req); err != nil {
			return &protocol.Problem{Code: protocol.ProblemInvalid, Message: "decode the request: " + err.Error()}
		}
		fn(ctx, req, func(r Reply) { reply(r) })
		return nil
	}}
}

// Serve answers requests on all endpoints until ctx ends. It returns when it listens. There is no queue group: of two services that listen, each gets each
// request, and one that hangs takes none away from the other. Each endpoint
// handles one request at a time, unless it says otherwise ([Endpoint.AtOnce]). The service ends with ctx or with the connection.
func Serve(ctx context.Context, nc *nats.Conn, log hclog.Logger, name string, endpoints ...Endpoint) error {
	svc, err := micro.AddService(nc, micro.Config{Name: name, Version: "1.0.0", Description: "rehost " + name, QueueGroupDisabled: true})
	if err != nil {
		return fmt.Errorf("start service %s: %w", name, err)
	}
	for _, e := range endpoints {
		handler := micro.HandlerFunc(func(r micro.Request) {
			if e.may != nil && e.may() != nil {
				return
			}
			if e.slots == nil {
				answer(ctx, log, nc.MaxPayload(), e, r)
				return
			}
			select {
			case e.slots <- struct{}{}: // the service reads no further request meanwhile
			case <-ctx.Done():
				return
			}
			go func() { // ends with its request; Wait waits for it
				defer func() { <-e.slots }()
				answer(ctx, log, nc.MaxPayload(), e, r)
			}()
		})
		if err := svc.AddEndpoint(e.Name, handler, micro.WithEndpointSubject(e.Subject)); err != nil {
			return errors.Join(fmt.Errorf("serve %s: %w", e.Subject, err), svc.Stop())
		}
	}
	context.AfterFunc(ctx, func() {
		if err := svc.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			log.Debug("service stop", "service", name, "error", err)
		}
	})
	flush, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return nc.FlushWithContext(flush)
}

func answer(ctx context.Context, log hclog.Logger, limit int64, e Endpoint, r micro.Request) {
	respond := func(reply any) error {
		body, err := Encode(reply)
		if err == nil {
			err = fits(r.Respond(body), len(body), limit)
		}
		return err
	}
	ctx = WithReason(context.WithValue(ctx, subjectKey{}, r.Subject()), r.Headers().Get(reasonKey))
	request, err := unpack(r.Data())
	switch {
	case err != nil:
		err = &protocol.Problem{Code: protocol.ProblemInvalid, Message: "unpack the request: " + err.Error()}
	case e.later != nil:
		err = e.later(ctx, request, func(reply any) {
			if err := respond(reply); err != nil {
				log.Warn("reply", "endpoint", e.Name, "error", err)
			}
		})
	default:
		var reply any
		if reply, err = e.handle(ctx, request); err == nil {
			err = respond(reply)
		}
	}
	if err == nil {
		return
	}
	p, ok := errors.AsType[*protocol.Problem](err)
	if !ok {
		p = &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error(), Hint: hint.Of(err), At: time.Now()}
	}
	body, errJSON := json.Marshal(p)
	if errJSON != nil {
		body = nil
	}
	if err := r.Error(string(p.Code), p.Message, body); err != nil {
		log.Warn("reply", "endpoint", e.Name, "error", err)
	}
}

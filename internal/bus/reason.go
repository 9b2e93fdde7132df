package bus

import (
	"context"

	"github.com/nats-io/nats.go"
)

// reasonKey is the header in which a request's reason travels.
const reasonKey = "Rehost-Reason"

type reasonCtx struct{}

// WithReason lets the requests made with the context say why they are made, whatever their type. Empty says nothing.
func WithReason(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, reasonCtx{}, reason)
}

// Reason returns what [WithReason] put there; of a request that is being handled, what its sender gave.
func Reason(ctx context.Context) string {
	s, _ := ctx.Value(reasonCtx{}).(string)
	return s
}

func reasonHeader(ctx context.Context) nats.Header {
	if reason := Reason(ctx); reason != "" {
		return nats.Header{reasonKey: []string{reason}}
	}
	return nil
}

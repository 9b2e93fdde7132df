package cloud

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"golang.org/x/time/rate"
)

// EC2 throttles each API of an account by a bucket of tokens. These are the sizes and refill
// rates (calls per second) that it documents. Others use the account too, so the adaptive mode
// below goes further down as soon as EC2 says so.
const (
	readRate, readBurst     = 20, 100
	changeRate, changeBurst = 5, 50
	runRate, runBurst       = 2, 5
	blockRate, blockBurst   = 500, 500 // half of what EBS gives an account and a snapshot
)

// pace decides how often each API is called, and when a call is repeated: the SDK's adaptive
// mode behind a rate limit, both per API, as EC2 counts. An API that is throttled slows down no other.
type pace struct {
	*retry.Standard // what needs no API: which errors are repeated, how often and after what pause
	patience        func(*retry.StandardOptions)
	adaptive        bool

	mu   sync.Mutex
	apis map[string]*api
}

// api is the pace of one API.
type api struct {
	limit   *rate.Limiter
	retryer aws.RetryerV2
}

var _ aws.RetryerV2 = (*pace)(nil)

// newPace makes a pace. The SDK's own setting (AWS_RETRY_MODE, retry_mode) may turn the adaptive mode off.
func newPace(maxBackoff time.Duration, mode aws.RetryMode) *pace {
	patience := func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = maxAttempts, maxBackoff }
	return &pace{Standard: retry.NewStandard(patience), patience: patience, adaptive: mode != aws.RetryModeStandard, apis: map[string]*api{}}
}

func (p *pace) of(ctx context.Context) *api {
	name := awsmiddleware.GetOperationName(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.apis[name] == nil {
		p.apis[name] = &api{limit: limitOf(name), retryer: p.retryer()}
	}
	return p.apis[name]
}

func (p *pace) retryer() aws.RetryerV2 {
	if !p.adaptive {
		return retry.NewStandard(p.patience)
	}
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) { o.StandardOptions = append(o.StandardOptions, p.patience) })
}

func limitOf(name string) *rate.Limiter {
	switch {
	case name == "GetSnapshotBlock":
		return rate.NewLimiter(blockRate, blockBurst)
	case strings.HasPrefix(name, "Describe"), strings.HasPrefix(name, "Get"), strings.HasPrefix(name, "List"):
		return rate.NewLimiter(readRate, readBurst)
	case name == "RunInstances":
		return rate.NewLimiter(runRate, runBurst)
	}
	return rate.NewLimiter(changeRate, changeBurst)
}

// GetAttemptToken waits until the API may be called.
func (p *pace) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	a := p.of(ctx)
	if err := a.limit.Wait(ctx); err != nil {
		return nil, err
	}
	return a.retryer.GetAttemptToken(ctx)
}

// GetRetryToken takes the price of a repetition from the API's budget.
func (p *pace) GetRetryToken(ctx context.Context, cause error) (func(error) error, error) {
	return p.of(ctx).retryer.GetRetryToken(ctx, cause)
}

// refusals is the pace of a call that makes something new each time it is done: it is repeated
// only when EC2 says that it was not done.
type refusals struct{ *pace }

// IsErrorRetryable implements [aws.Retryer].
func (r refusals) IsErrorRetryable(err error) bool { return throttles.IsErrorThrottle(err).Bool() }

// RetryDelay implements [aws.Retryer]. It is short: a replica may stand still meanwhile.
func (r refusals) RetryDelay(attempt int, err error) (time.Duration, error) {
	d, err := r.pace.RetryDelay(attempt, err)
	return min(d, refusedBackoff), err
}

const refusedBackoff = 5 * time.Second

var throttles = retry.IsErrorThrottles(retry.DefaultThrottles)

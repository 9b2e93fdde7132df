// Package account asks the cloud, before anything is made there, whether the controller may do what a configuration needs, and has
// room for it: permissions, images, instance profiles, keys, quotas. It only asks. Whether what a configuration names exists and
// fits together is the preflight package's question.
package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rehost/controller/internal/preflight"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// Trials are calls that are tried and not done.
type Trials interface {
	TryInstance(ctx context.Context, spec cloud.InstanceSpec) error
	TryVolume(ctx context.Context, spec cloud.VolumeSpec, subnet, image string) error
	TryImage(ctx context.Context, spec cloud.ImageSpec, image string) error
	TryGroup(ctx context.Context, spec cloud.GroupSpec) error
	TryOwn(ctx context.Context, image string) []cloud.Trial
	Key(ctx context.Context, name string) error
}

// Figures are how much there may be of something, and how much there is.
type Figures interface {
	InstanceType(ctx context.Context, name string) (cloud.Type, error)
	Used(ctx context.Context) (cloud.Used, error)
	LimitOf(ctx context.Context, l cloud.Limit) (float64, error)
}

// Cloud is what is asked.
type Cloud interface {
	Trials
	Figures
}

const (
	// keep is how long an answer that nothing is wrong with counts.
	keep = time.Minute
	// within is how long the cloud may take: a person waits, and the bus's patience is not much longer.
	within = 2500 * time.Millisecond
	// atOnce hides the latency of one question behind the others.
	atOnce = 8
)

// Account asks about one account and region. It is safe for concurrent use.
type Account struct {
	cloud Cloud
	known func(server string) Known

	mu     sync.Mutex
	kept   map[string]answer    // by the question's key
	enough map[string]time.Time // when the quotas were, by what was needed
}

type answer struct {
	trials []cloud.Trial
	at     time.Time
}

// New makes an Account. known says what is known of a server.
func New(c Cloud, known func(server string) Known) *Account {
	return &Account{cloud: c, known: known, kept: map[string]answer{}, enough: map[string]time.Time{}}
}

// Forget makes the next answers new ones.
func (a *Account) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.kept)
	clear(a.enough)
}

// Findings says what the cloud does not allow or have room for, the worst first. What it does not say in time is a finding, too.
func (a *Account) Findings(ctx context.Context, f protocol.Fleet) []protocol.Finding {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	missing := needs(f, a.known)
	all := questions(f, missing.worked)
	answers := make([][]cloud.Trial, len(all))
	var short []protocol.Finding
	var g errgroup.Group
	g.SetLimit(atOnce)
	g.Go(func() error { short = a.quotas(ctx, missing); return nil })
	for i, q := range all {
		g.Go(func() error { answers[i] = a.ask(ctx, q); return nil })
	}
	_ = g.Wait() // none of them fails
	found := append(judge(all, answers), short...)
	preflight.WorstFirst(found)
	return found
}

// Quotas says which quotas have no room for what a configuration still needs, or are not known.
func (a *Account) Quotas(ctx context.Context, f protocol.Fleet) []protocol.Finding {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return a.quotas(ctx, needs(f, a.known))
}

// quotas says which quotas are short, from memory when none was just now.
func (a *Account) quotas(ctx context.Context, n need) []protocol.Finding {
	key := fmt.Sprintf("%+v", n)
	a.mu.Lock()
	was, ok := a.enough[key]
	a.mu.Unlock()
	if ok && time.Since(was) < keep {
		return nil
	}
	found := quotas(ctx, a.cloud, n)
	if len(found) == 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		maps.DeleteFunc(a.enough, func(_ string, at time.Time) bool { return time.Since(at) >= keep })
		a.enough[key] = time.Now()
	}
	return found
}

// ask answers a question, from memory when it was answered well just now.
func (a *Account) ask(ctx context.Context, q question) []cloud.Trial {
	a.mu.Lock()
	was, ok := a.kept[q.key()]
	a.mu.Unlock()
	if ok && time.Since(was.at) < keep {
		return was.trials
	}
	now := answer{q.ask(ctx, a.cloud), time.Now()}
	for _, t := range now.trials {
		if t.Err != nil && !errors.Is(t.Err, cloud.ErrUntried) {
			return now.trials
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.kept, func(_ string, was answer) bool { return time.Since(was.at) >= keep })
	a.kept[q.key()] = now
	return now.trials
}

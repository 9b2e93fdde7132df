package fault

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Plan says which troubles the endpoint plays, for tests of its clients. The zero value plays none.
type Plan struct {
	// Seed chooses the calls that meet trouble. The same seed and the same order of calls give the same troubles.
	Seed uint64
	// Throttle is the share of calls, 0 to 1, that are refused with RequestLimitExceeded.
	Throttle float64
	// Fail is the share of calls, 0 to 1, that are answered with InternalError and status 500: one
	// half of them was not done, the other half was.
	Fail float64
	// Lose names calls whose answer is lost: the call is done, and the connection cut. Each
	// request loses one answer; when it is repeated word by word, the second one arrives.
	Lose []string
	// Refuse says which calls are refused, each with a code of EC2's, such as RunInstances with InsufficientInstanceCapacity.
	Refuse []Refusal
	// Delay is how much longer each call takes.
	Delay time.Duration
}

// Refusal is the answer to a call that is not done.
type Refusal struct {
	Action, Code string
	Times        int // how often, until it is done; 0: always
}

// Kinds of trouble, as the observer of an [Injector] is told.
const (
	KindThrottle = "throttle"
	KindFail     = "fail"
	KindFailDone = "fail-done"
	KindLose     = "lose"
	KindRefuse   = "refuse"
)

// Injector plays a plan. A nil one plays none.
type Injector struct {
	plan     Plan
	observer func(action, kind string)

	mu   sync.Mutex
	rand *rand.Rand
	lost map[string]bool // requests that lost an answer
	said []int           // how often each refusal has been given
}

// NewInjector makes an Injector; observer is told of each trouble, and may be nil.
func NewInjector(p Plan, observer func(action, kind string)) *Injector {
	if observer == nil {
		observer = func(string, string) {}
	}
	return &Injector{plan: p, observer: observer, rand: rand.New(rand.NewPCG(p.Seed, 0)), lost: map[string]bool{}, said: make([]int, len(p.Refuse))}
}

// Delay is how long to wait before a call is looked at.
func (i *Injector) Delay() time.Duration {
	if i == nil {
		return 0
	}
	return i.plan.Delay
}

// Before returns the refusal that a call meets before it is done, or nil. A dry run is not refused by a plan: what a real call runs
// out of, it does not look at.
func (i *Injector) Before(action string, dry bool) error {
	if i == nil {
		return nil
	}
	if !dry {
		if err := i.refuses(action); err != nil {
			i.observer(action, KindRefuse)
			return err
		}
	}
	switch {
	case i.happens(i.plan.Throttle):
		i.observer(action, KindThrottle)
		return &Error{Code: "RequestLimitExceeded", Message: "Request limit exceeded.", Status: http.StatusServiceUnavailable}
	case i.happens(i.plan.Fail / 2):
		i.observer(action, KindFail)
		return internalError()
	}
	return nil
}

// After says what becomes of the answer of a call that was done: it is lost, or an error says that
// the call failed, or, with false and nil, it arrives.
func (i *Injector) After(action string, request url.Values) (lost bool, err error) {
	switch {
	case i == nil:
	case i.loses(action, request):
		i.observer(action, KindLose)
		return true, nil
	case i.happens(i.plan.Fail / 2):
		i.observer(action, KindFailDone)
		return false, internalError()
	}
	return false, nil
}

func internalError() error {
	return &Error{Code: "InternalError", Message: "An internal error has occurred", Status: http.StatusInternalServerError}
}

func (i *Injector) happens(share float64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return share > 0 && i.rand.Float64() < share
}

// messages are EC2's own words for what only a real cloud runs out of.
var messages = map[string]string{
	"InsufficientInstanceCapacity": "We currently do not have sufficient capacity in the Availability Zone you requested. Our system will be working on provisioning additional capacity.",
	"InsufficientVolumeCapacity":   "There is not enough capacity to fulfill your EBS volume provision request.",
}

func (i *Injector) refuses(action string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, r := range i.plan.Refuse {
		if r.Action != action || r.Times > 0 && i.said[n] == r.Times {
			continue
		}
		i.said[n]++
		message := messages[r.Code]
		if message == "" {
			message = "The local cloud was told to refuse " + action + "."
		}
		e := &Error{Code: r.Code, Message: message}
		if strings.HasPrefix(r.Code, "Insufficient") {
			e.Status = http.StatusInternalServerError // as EC2 does
		}
		return e
	}
	return nil
}

func (i *Injector) loses(action string, request url.Values) bool {
	if !slices.Contains(i.plan.Lose, action) {
		return false
	}
	key := request.Encode()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lost[key] {
		return false
	}
	i.lost[key] = true
	return true
}

// Set reads one setting, such as throttle=0.3, fail=0.1, lose=CreateSnapshot, refuse=RunInstances:InsufficientInstanceCapacity:2, delay=200ms or
// seed=7.
func (p *Plan) Set(setting string) error {
	name, value, _ := strings.Cut(setting, "=")
	var err error
	switch name {
	case "seed":
		p.Seed, err = strconv.ParseUint(value, 10, 64)
	case "throttle":
		p.Throttle, err = share(value)
	case "fail":
		p.Fail, err = share(value)
	case "delay":
		p.Delay, err = time.ParseDuration(value)
		if err == nil && p.Delay < 0 {
			err = fmt.Errorf("%s is negative", value)
		}
	case "lose":
		if value == "" {
			err = fmt.Errorf("no call is named")
		}
		p.Lose = append(p.Lose, value)
	case "refuse":
		var r Refusal
		r, err = refusal(value)
		p.Refuse = append(p.Refuse, r)
	default:
		return fmt.Errorf("unknown fault %q", name)
	}
	if err != nil {
		return fmt.Errorf("fault %s: %w", name, err)
	}
	return nil
}

// refusal reads ACTION:CODE or ACTION:CODE:TIMES.
func refusal(text string) (r Refusal, err error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return r, fmt.Errorf("%q is not ACTION:CODE or ACTION:CODE:TIMES", text)
	}
	r.Action, r.Code = parts[0], parts[1]
	if len(parts) == 3 {
		r.Times, err = strconv.Atoi(parts[2])
		if err == nil && r.Times < 1 {
			err = fmt.Errorf("%d times is not possible", r.Times)
		}
	}
	return r, err
}

func share(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err == nil && (v < 0 || v > 1) {
		err = fmt.Errorf("%s is not between 0 and 1", text)
	}
	return v, err
}

package agent

import (
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/agent/internal/survey"
	"rehost/convert"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// surveyAge is when a survey is made anew: what is installed and configured changes by hand, in hours.
	surveyAge = time.Hour
	// surveyRetry is the pause after one that failed.
	surveyRetry = 5 * time.Minute
)

// surveyor keeps what a conversion of the source would say. One survey is made at a time, and none for as long as nobody orders it.
type surveyor struct {
	look    func(ctx context.Context, options protocol.ConversionSettings) (protocol.Survey, error) // nil: there is nothing to look at
	server  string
	log     hclog.Logger
	changed func()

	mu      sync.Mutex // guards the fields beneath
	newest  *protocol.Survey
	id      string // of newest
	running bool
}

// state returns the newest survey and its id; an empty one when there is none.
func (s *surveyor) state() (id string, newest *protocol.Survey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.newest
}

// want makes a survey when the newest one is not what is ordered, or old.
func (s *surveyor) want(ctx context.Context, tasks *sync.WaitGroup, order *protocol.SurveyOrder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.look == nil || order == nil || s.running || !s.dueLocked(*order, time.Now()) {
		return
	}
	s.running = true
	wanted := *order
	tasks.Go(func() {
		found, err := s.look(ctx, wanted.Options)
		if err != nil {
			found = protocol.Survey{At: time.Now(), Problem: &protocol.Problem{
				Code: protocol.ProblemConversion, Server: s.server, Message: err.Error(), Hint: hint.Of(err), At: time.Now(),
			}}
		}
		found.Order = wanted
		s.mu.Lock()
		s.running = false
		if ctx.Err() == nil { // one that was called off says nothing
			s.newest, s.id = &found, rand.Text()
		}
		s.mu.Unlock()
		s.log.Info("survey", "findings", len(found.Findings), "seconds", found.Seconds, "error", err)
		s.changed()
	})
}

func (s *surveyor) dueLocked(order protocol.SurveyOrder, now time.Time) bool {
	if s.newest == nil || !s.newest.Order.Equal(order) {
		return true
	}
	age := now.Sub(s.newest.At)
	return age > surveyAge || (s.newest.Problem != nil && age > surveyRetry)
}

// hostSurvey looks at this host. What it finds in initramfs images is kept for the next time.
func hostSurvey(disks []string) func(context.Context, protocol.ConversionSettings) (protocol.Survey, error) {
	scans := convert.Scans{}
	return func(ctx context.Context, options protocol.ConversionSettings) (protocol.Survey, error) {
		reply, err := survey.Run(ctx, "", survey.Request{Disks: disks, Options: options, Scans: scans})
		if err == nil {
			scans = reply.Scans
		}
		return reply.Survey, err
	}
}

// SurveyHelper is the helper process that an agent starts from its own binary.
func SurveyHelper(in io.Reader, out io.Writer) error { return survey.HelperMain(in, out) }

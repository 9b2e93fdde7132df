package controller

import (
	"context"
	"fmt"
	"time"

	"rehost/controller/internal/staging"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// doubtEvery is how often the cloud is asked about what speaks against a restored record.
const doubtEvery = time.Minute

// believe looks whether a record that comes from a backup still holds, as soon as its agent has reported: whether the source's writers
// are stopped as the record says, and no instance was launched that it does not know. Until then the fence stays as the agent has
// it. A record that does not hold is for a person to judge.
func (c *controller) believe(ctx context.Context, name string) error {
	rec, err := c.store.Servers.Get(name)
	if err != nil || rec.Restored.IsZero() {
		return nil //nolint:nilerr // it is new, or gone
	}
	report, _, known := c.reports.Agent(name)
	told := rec.Problem != nil && rec.Problem.Step == staging.StepRestore
	if !known || (told && time.Since(rec.Problem.At) < doubtEvery) {
		return nil
	}
	against, err := c.against(ctx, rec, report.Fenced || report.FenceKept)
	if err != nil {
		return err
	}
	if against == nil {
		if err := c.points.Lost(ctx, name); err != nil {
			return err
		}
		c.logger.Info("restored record holds", "server", name, "backup", rec.Restored)
	}
	_, err = c.store.Servers.Update(ctx, name, func(r *protocol.Server) error {
		if told = r.Problem != nil && r.Problem.Step == staging.StepRestore; told || (against != nil && r.Problem == nil) {
			r.Problem = against
		}
		if against == nil && r.Fence == (report.Fenced || report.FenceKept) {
			r.Restored = time.Time{}
		}
		return nil
	})
	return err
}

// against is what speaks against a restored record, or nil.
func (c *controller) against(ctx context.Context, rec protocol.Server, fenced bool) (*protocol.Problem, error) {
	from := rec.Restored.UTC().Format(time.DateTime) + " UTC"
	say := func(format string, args ...any) *protocol.Problem {
		return &protocol.Problem{
			Code: protocol.ProblemConflict, Server: rec.Name, Step: staging.StepRestore, At: time.Now(), Message: rec.Name + ": " + fmt.Sprintf(format, args...),
			Hint: "find out where it serves. On the source: rehost server confirm " + rec.Name + ", which lets its writers go on. In the cloud: take it out of the configuration, and apply that",
		}
	}
	switch {
	case fenced && !rec.Fence:
		return say("the source's writers are stopped, which the backup of %s does not know: it was cut over since, or a cutover was under way", from), nil
	case !fenced && rec.Fence:
		return say("the source's writers run, though they were stopped in the backup of %s: a cutover was taken back since, or the source was restarted", from), nil
	}
	instances, err := c.cloud.Instances(ctx, cloud.Tags{cloud.TagRole: cloud.RoleTarget, cloud.TagServer: rec.Name})
	if err != nil {
		return nil, fmt.Errorf("look for launched instances of %s: %w", rec.Name, err)
	}
	for _, i := range instances {
		if i.Alive() && !launched(rec.Test, i.ID) && !launched(rec.Cutover, i.ID) {
			return say("instance %s was launched of it by job %s, which the backup of %s does not know", i.ID, i.Tags[cloud.TagJob], from), nil
		}
	}
	return nil, nil
}

func launched(l *protocol.Launched, instance string) bool { return l != nil && l.Instance == instance }

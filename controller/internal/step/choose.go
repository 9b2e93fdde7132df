package step

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// choose finds the points that an operator wants to launch from, by server.
func (r *Runner) choose(plan wave.Plan, req protocol.StartRequest) (map[string]string, error) {
	out := map[string]string{}
	for _, server := range slices.Sorted(maps.Keys(req.Points)) {
		no := func(hint, format string, args ...any) error {
			return &protocol.Problem{Code: protocol.ProblemInvalid, Server: server, Message: fmt.Sprintf(format, args...), Hint: hint}
		}
		if !slices.Contains(plan.Servers, server) {
			return nil, no("the job's servers are: "+strings.Join(plan.Servers, ", "), "a point is chosen for %s, which is not in %s", server, plan.Of)
		}
		if req.Kind != protocol.JobTest && req.Kind != protocol.JobCutover {
			return nil, no("leave the point out", "a job of kind %s launches nothing", req.Kind)
		}
		if req.Kind == protocol.JobCutover && req.Force == "" {
			return nil, no("leave the point out, and one is taken behind the fence; or give a reason with --force",
				"a cutover of %s from an earlier point loses what was written since", server)
		}
		pt, err := r.chosen(server, req.Points[server])
		if err != nil {
			return nil, err
		}
		if age := time.Since(pt.Taken).Round(time.Minute); age > protocol.MaxPointAge && req.Force == "" {
			return nil, no("take a new one: rehost point take "+server+"; or give a reason with --force",
				"point %s of %s is %s old, which is more than %s", pt.ID, server, age, protocol.MaxPointAge)
		}
		out[server] = pt.ID
	}
	return out, nil
}

// chosen returns a server's point by its id, or its newest complete one.
func (r *Runner) chosen(server, id string) (protocol.Point, error) {
	next := "look at what there is: rehost point list " + server
	if id != protocol.NewestPoint {
		pt, err := r.points.Find(server, id)
		if err == nil && pt.State != protocol.PointComplete {
			err = &protocol.Problem{Code: protocol.ProblemInvalid, Server: server, Message: fmt.Sprintf("point %s of %s is %s: nothing can be launched from it", id, server, pt.State), Hint: next}
		}
		return pt, err
	}
	all, err := r.store.Points.List(server + ".")
	if err != nil {
		return protocol.Point{}, err
	}
	all = slices.DeleteFunc(all, func(pt protocol.Point) bool { return pt.State != protocol.PointComplete })
	if len(all) == 0 {
		return protocol.Point{}, &protocol.Problem{Code: protocol.ProblemInvalid, Server: server, Message: "there is no complete point of " + server, Hint: "leave the point out, and one is taken"}
	}
	return slices.MaxFunc(all, func(a, b protocol.Point) int { return a.Taken.Compare(b.Taken) }), nil
}

// useChosen checks that the chosen point is still there, and says in the log and in the step how old it is.
func (w *Work) useChosen(ctx context.Context, id string) error {
	pt, err := w.points.Find(w.server, id)
	if err != nil {
		return &final{err}
	}
	if pt.State != protocol.PointComplete {
		return &final{&protocol.Problem{
			Code: protocol.ProblemPoint, Message: fmt.Sprintf("point %s of %s is %s meanwhile", id, w.server, pt.State), Hint: "choose another one: rehost point list " + w.server,
		}}
	}
	age := time.Since(pt.Taken).Round(time.Second)
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		js.Steps[w.step].Detail = fmt.Sprintf("%s, %s, chosen; %s old", pt.ID, pt.Grade, age)
		told := slices.ContainsFunc(j.Log, func(e protocol.JobEvent) bool { return e.Event == protocol.EventPreviousPoint && e.Server == w.server })
		if !told {
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventPreviousPoint, Server: w.server, Detail: fmt.Sprintf("point %s, %s old", pt.ID, age)})
		}
	})
}

package backup

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/protocol"
)

// Settled says what of a backup is not as it was, for people.
type Settled struct {
	Jobs      []string // that ran, and are cancelled
	Points    int      // that were on their way, and have failed
	Moves     []string // servers whose move was given up
	Revocable []string // servers whose agents had enrolled
}

// settle makes of the records of a moment what is true of them later. The world went on: what a record says was done is done, what it
// says was under way is not to be continued, and what it says of a replica's content is not to be believed.
//
// No checkpoint comes back. In its place each replica gets one that speaks of no volumes: it makes the replication server open them as
// volumes that may hold anything, and the agent compare everything. Without one, volumes would be taken for empty ones, as they were when they
// were made, and what the source has zeroed since would not be sent.
func settle(entries []protocol.BackupEntry, cut, now time.Time) ([]record, Settled, error) {
	t := &settler{cut: cut, now: now, reserved: map[string]string{}}
	for _, e := range entries {
		value, err := t.settle(e)
		if err != nil {
			return nil, t.told, fmt.Errorf("record %s of %s: %w", e.Key, e.Bucket, err)
		}
		t.out = append(t.out, record{e.Bucket, e.Key, value})
	}
	for _, r := range t.out { // all servers are known now
		if rs, ok := r.value.(*protocol.ReplicaServer); ok {
			rs.Servers = slices.DeleteFunc(rs.Servers, func(server string) bool { return t.reserved[server] == rs.Name })
		}
	}
	slices.Sort(t.told.Revocable)
	t.told.Revocable = slices.Compact(t.told.Revocable)
	return t.out, t.told, nil
}

// record is one that is to be written.
type record struct {
	bucket, key string
	value       any
}

// settler is what is known while records are settled.
type settler struct {
	cut, now time.Time
	out      []record
	told     Settled
	reserved map[string]string // by server: a replication server that it does not move to
}

// settle returns what becomes of one record.
func (t *settler) settle(e protocol.BackupEntry) (any, error) {
	switch e.Bucket {
	case protocol.BucketServers:
		return edited(e, t.server)
	case protocol.BucketPoints:
		return edited(e, func(p *protocol.Point) {
			if settlePoint(p, t.cut, t.now) {
				t.told.Points++
			}
		})
	case protocol.BucketJobs:
		return edited(e, func(j *protocol.Job) {
			if settleJob(j, t.cut, t.now) {
				t.told.Jobs = append(t.told.Jobs, j.ID)
			}
		})
	case protocol.BucketStaging:
		return edited(e, func(*protocol.ReplicaServer) {})
	case protocol.BucketWebhooks: // events are not in a backup: the stream begins anew
		return edited(e, func(h *protocol.Webhook) { h.Next, h.Held = 1, nil })
	case protocol.BucketEnrolments:
		return edited(e, func(r *protocol.Enrolment) {
			if r.Role == protocol.RoleAgent {
				t.told.Revocable = append(t.told.Revocable, r.Name)
			}
		})
	}
	return e.Value, nil
}

func (t *settler) server(r *protocol.Server) {
	if to := settleServer(r, t.cut); to != "" {
		t.reserved[r.Name], t.told.Moves = to, append(t.told.Moves, r.Name)
	}
	if r.Generation != "" {
		t.out = append(t.out, record{protocol.BucketCheckpoints, r.Name + "." + r.Generation, protocol.Checkpoint{Server: r.Name, Generation: r.Generation, At: t.now}})
	}
}

// edited decodes a record and changes it.
func edited[T any](e protocol.BackupEntry, change func(*T)) (any, error) {
	v := new(T)
	if err := json.Unmarshal(e.Value, v); err != nil {
		return nil, err
	}
	change(v)
	return v, nil
}

// settleServer lets go of the server, and doubts its replica and its fence. A source that a job had fenced when the backup was made may have been
// cut over or let go of since: its agent keeps the fence as it is until that is known ([protocol.Server.Restored]).
func settleServer(r *protocol.Server, cut time.Time) (reserved string) {
	if r.Job != "" && r.Cutover == nil {
		r.Fence, r.FenceKeep = false, false
	}
	r.Job, r.JobKind, r.PointOrder = "", "", nil
	if !r.Finalized.IsZero() {
		return ""
	}
	return staging.Doubt(r, cut)
}

// settlePoint fails a point that was on its way, and says so. Were it continued, snapshots would be made of volumes that are long past
// it. One whose snapshots were complete is what it was.
func settlePoint(p *protocol.Point, cut, now time.Time) bool {
	if !point.Active(*p) || len(p.Snapshots) > 0 {
		return false
	}
	p.State, p.Over = protocol.PointLost, now
	p.Problem = &protocol.Problem{
		Code: protocol.ProblemPoint, Server: p.Server, At: now,
		Message: "point " + p.ID + " was on its way when the backup of " + at(cut) + " was made", Hint: "take another one",
	}
	return true
}

// settleJob ends a job that ran, and says so. Nothing of it is undone: what it launched may serve by now.
func settleJob(j *protocol.Job, cut, now time.Time) bool {
	if j.Status.Ended() {
		return false
	}
	reason := fmt.Sprintf("the controller was restored from the backup of %s, when this job ran: what it did afterwards is not known. Look for what carries the tag rehost:job=%s in the cloud: "+
		"`rehost sweep` lists what may go, and launched instances are yours to judge", at(cut), j.ID)
	j.Status, j.Ended, j.Cancel = protocol.JobCancelled, now, &protocol.Cancellation{At: now, Reason: reason}
	for i := range j.Servers {
		s := &j.Servers[i]
		open := false
		for k := range s.Steps {
			if step := &s.Steps[k]; step.Status == protocol.StepInProgress || step.Status == protocol.StepNotStarted {
				step.Status, step.Ended, open = protocol.StepCancelled, now, true
			}
		}
		if open || s.Status == protocol.StepInProgress || s.Status == protocol.StepNotStarted {
			s.Status = protocol.StepCancelled
		}
	}
	j.Log = append(j.Log, protocol.JobEvent{At: now, Event: protocol.EventJobCancel, Detail: reason},
		protocol.JobEvent{At: now, Event: protocol.EventJobEnd, Detail: string(j.Status), Took: now.Sub(j.Created)})
	return true
}

func at(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

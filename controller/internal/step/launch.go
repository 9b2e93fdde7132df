package step

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/await"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// makeImage snapshots what the conversion wrote to, and registers it with the point's other snapshots.
func makeImage(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil {
		return err
	}
	_, launch, err := w.settings()
	if err != nil {
		return err
	}
	made, err := w.snapshotConverted(ctx, rec.Volumes)
	if err != nil {
		return err
	}
	root, data := "", []string(nil)
	for i, s := range w.list(dataSnapshots) {
		if made[i] != "" {
			s = made[i]
		}
		if rec.Volumes[i].Boot {
			root = s
		} else {
			data = append(data, s)
		}
	}
	name := "rehost-" + w.server + "-" + w.job
	image, err := w.cloud.RegisterImage(ctx, cloud.ImageSpec{
		Name: name, Root: root, Data: data, BootMode: w.bootMode(launch),
		Tags: named(w.tags(cloud.RoleImage), name, nil),
	}, w.progress(ctx))
	if err != nil {
		return err
	}
	if err := w.set(ctx, protocol.JobDataImage, image.ID); err != nil {
		return err
	}
	w.progress(ctx)(image.ID)
	return nil
}

// snapshotConverted takes a snapshot of each clone that is not what its snapshot is, and returns them in disk order; the others
// have none. An older conversion program does not say what it wrote to: then all may be.
func (w *Work) snapshotConverted(ctx context.Context, volumes []protocol.StagingVolume) ([]string, error) {
	made := make([]string, len(volumes))
	var pending []string
	written := w.data(dataWritten)
	for i, clone := range w.list(dataClones) {
		if clone == "" || (written != "" && !volumes[i].Boot && !slices.Contains(strings.Split(written, ","), clone)) {
			continue
		}
		snapshot, err := w.cloud.SnapshotVolume(ctx, clone, w.tags(cloud.RoleConvertedSnapshot))
		if err != nil {
			return nil, err
		}
		made[i] = snapshot.ID
		pending = append(pending, snapshot.ID)
	}
	if err := w.set(ctx, protocol.JobDataConvertedSnapshots, strings.Join(made, ",")); err != nil {
		return nil, err
	}
	return made, w.cloud.WaitSnapshots(ctx, pending, w.progress(ctx))
}

// bootMode is what the launch block says, or else what the conversion found, or the agent.
func (w *Work) bootMode(launch protocol.LaunchSettings) string {
	if launch.BootMode != "" && launch.BootMode != "source" {
		return launch.BootMode
	}
	report, _, _ := w.reports.Agent(w.server)
	return or(or(w.data(dataBootMode), report.Host.BootMode), "bios")
}

// retirePrevious removes what an earlier test left, so that one test instance of a server exists at most.
func retirePrevious(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil {
		return err
	}
	if rec.Test == nil || rec.Test.Job == w.job {
		return &skip{"there is no earlier test instance"}
	}
	return w.removeTest(ctx, *rec.Test)
}

// terminate removes a server's test instance.
func terminate(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil {
		return err
	}
	if rec.Test == nil {
		return &skip{"there is no test instance"}
	}
	return w.removeTest(ctx, *rec.Test)
}

func (w *Work) removeTest(ctx context.Context, test protocol.Launched) error {
	if err := w.removeLaunch(ctx, test.Job, test.Point); err != nil {
		return err
	}
	_, err := w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error {
		if r.Test != nil && r.Test.Job == test.Job {
			r.Test = nil
		}
		return nil
	})
	return err
}

// removeLaunch removes the target, the image and the snapshots that a job made for the server.
func (w *Work) removeLaunch(ctx context.Context, job, point string) error {
	tags := cloud.Tags{cloud.TagServer: w.server, cloud.TagJob: job}
	if err := w.terminateAll(ctx, tags.With(cloud.Tags{cloud.TagRole: cloud.RoleTarget})); err != nil {
		return err
	}
	if err := w.removeImages(ctx, tags); err != nil {
		return err
	}
	// One that was chosen was there before, and stays.
	if pt, err := w.points.Get(w.server, point); point == "" || (err == nil && (pt.Job != job || pt.Pinned)) {
		return nil
	}
	return w.points.Remove(ctx, w.server, point)
}

// removeImages deregisters images, and then deletes the converted snapshots behind them.
func (r *Runner) removeImages(ctx context.Context, tags cloud.Tags) error {
	images, err := r.cloud.Images(ctx, tags.With(cloud.Tags{cloud.TagRole: cloud.RoleImage}))
	if err != nil {
		return err
	}
	for _, i := range images {
		if err := r.cloud.DeregisterImage(ctx, i.ID); err != nil {
			return err
		}
	}
	snapshots, err := r.cloud.Snapshots(ctx, tags.With(cloud.Tags{cloud.TagRole: cloud.RoleConvertedSnapshot}))
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		if err := r.cloud.DeleteSnapshot(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// launch runs the target, and records it with the server.
func launch(ctx context.Context, w *Work) error {
	_, settings, err := w.settings()
	if err != nil {
		return err
	}
	spec, detail, err := w.target(settings)
	if err != nil {
		return err
	}
	if spec.SecurityGroups, err = w.groups(ctx, settings); err != nil {
		return err
	}
	spec.Interfaces = w.interfaces(settings, spec.SecurityGroups)
	inst, err := w.cloud.RunInstance(ctx, spec)
	if err != nil {
		return err
	}
	if err := w.set(ctx, protocol.JobDataInstance, inst.ID); err != nil {
		return err
	}
	// One that is stopped was stopped by a run of this step that was cut off.
	if inst.State != cloud.InstanceStopped {
		if inst, err = w.awaitAddress(ctx, inst.ID); err != nil {
			return err
		}
	}
	if settings.Disposition == dispositionStopped && !w.ready && inst.State != cloud.InstanceStopped {
		w.progress(ctx)("stopping " + inst.ID)
		if inst, err = w.cloud.StopInstance(ctx, inst.ID, nil); err != nil {
			return err
		}
	}
	if err := w.set(ctx, protocol.JobDataAddress, inst.Address(), dataStopped, stopped(inst)); err != nil {
		return err
	}
	l, err := w.launched()
	if err != nil {
		return err
	}
	w.progress(ctx)(fmt.Sprintf("%s at %s, %s, from point %s of %s ago", inst.ID, inst.Address(), detail, l.Point, time.Since(l.Taken).Round(time.Second)))
	if w.kind == protocol.JobCutover || w.ready { // the one counts when it is committed, the other one is no test
		return nil
	}
	_, err = w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error {
		if r.Test == nil || r.Test.Job != l.Job {
			r.Test = &l
		}
		return nil
	})
	return err
}

// launched is what the job has launched, for the server's record.
func (w *Work) launched() (protocol.Launched, error) {
	s := w.state()
	pt, err := w.points.Get(w.server, s.Data[protocol.JobDataPoint])
	return protocol.Launched{
		Job: w.job, Point: pt.ID, Image: s.Data[protocol.JobDataImage], Instance: s.Data[protocol.JobDataInstance], Address: s.Data[protocol.JobDataAddress], At: time.Now(), Taken: pt.Taken,
	}, err
}

func stopped(inst cloud.Instance) string {
	if inst.State == cloud.InstanceStopped {
		return "yes"
	}
	return ""
}

func (w *Work) awaitAddress(ctx context.Context, id string) (cloud.Instance, error) {
	inst, err := w.cloud.WaitInstance(ctx, id, cloud.InstanceRunning, w.progress(ctx))
	if err != nil || inst.Address() != "" {
		return inst, err
	}
	err = await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		var err error
		inst, err = w.cloud.Instance(ctx, id)
		return inst.Address() != "", err
	})
	return inst, err
}

// cleanup removes what only the conversion needed, and what nobody will use: a target of a failed test stays for inspection, one
// of a failed cutover or of a cancelled job does not.
func cleanup(ctx context.Context, w *Work) error {
	if err := w.endConversion(ctx); err != nil {
		return err
	}
	state := w.state()
	kept, err := w.keepsClones(state)
	switch {
	case err != nil:
		return err
	case kept:
		w.progress(ctx)("left for inspection: " + strings.Join(w.clones(), ", "))
	default:
		if err := w.discardClones(ctx); err != nil {
			return err
		}
	}
	failed := outcome(state.Steps)
	inspected := w.kind == protocol.JobTest && failed == protocol.StepFailed && state.Data[protocol.JobDataInstance] != "" && state.Data[protocol.JobDataAddress] != ""
	if !w.ready && (failed == protocol.StepSucceeded || inspected || w.application().Outcome == protocol.OutcomeCommitted) {
		return nil
	}
	pt, err := w.unneeded(ctx, state)
	if err != nil {
		return err
	}
	if err := w.removeLaunch(ctx, w.job, pt); err != nil {
		return err
	}
	if w.ready { // it recorded none
		return nil
	}
	_, err = w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error {
		if r.Test != nil && r.Test.Job == w.job {
			r.Test = nil
		}
		return nil
	})
	return err
}

// unneeded is the point that the job took, unless it is the last that there may ever be of a source which was fenced and has not said since that it goes on.
func (w *Work) unneeded(ctx context.Context, state protocol.JobServer) (string, error) {
	id := state.Data[protocol.JobDataPoint]
	answered := !slices.ContainsFunc(state.Steps, func(s protocol.JobStep) bool {
		return s.Name == protocol.JobStepUnfence && s.Status == protocol.StepFailed
	})
	if answered || id == "" || state.Data[protocol.JobDataChosen] != "" {
		return id, nil
	}
	left, err := w.points.Leave(ctx, w.server, id)
	if err != nil || !left {
		return id, err
	}
	w.progress(ctx)("point " + id + " stays, since nothing was heard of the source any more")
	return "", nil
}

// keepsClones says whether somebody wants to look at what a failed conversion has left.
func (w *Work) keepsClones(state protocol.JobServer) (bool, error) {
	job, err := w.store.Jobs.Get(w.job)
	return job.KeepClones && slices.ContainsFunc(state.Steps, func(s protocol.JobStep) bool {
		return s.Name == protocol.JobStepConvert && s.Status == protocol.StepFailed
	}), err
}

// removeReplica removes everything of the server but the target of its cutover.
func removeReplica(ctx context.Context, w *Work) error { return w.Sweep(ctx, w.server) }

// Sweep removes everything of a server from the cloud but the target of its cutover and that one's
// volumes. It goes by tags, so it also finds what no record knows of.
func (r *Runner) Sweep(ctx context.Context, server string) error {
	rec, err := r.store.Servers.Get(server)
	if err != nil {
		return err
	}
	own := cloud.Tags{cloud.TagServer: server}
	instances, err := r.cloud.Instances(ctx, own)
	if err != nil {
		return err
	}
	for _, inst := range instances {
		if inst.State == cloud.InstanceTerminated || (rec.Cutover != nil && inst.ID == rec.Cutover.Instance) {
			continue
		}
		if err := r.cloud.TerminateInstance(ctx, inst.ID, nil); err != nil {
			return err
		}
	}
	if err := r.removeImages(ctx, own); err != nil {
		return err
	}
	if err := r.points.RemoveAll(ctx, server); err != nil {
		return err
	}
	clones, err := r.cloud.Volumes(ctx, own.With(cloud.Tags{cloud.TagRole: cloud.RoleClone}))
	if err != nil {
		return err
	}
	for _, v := range clones {
		if err := r.cloud.DeleteVolume(ctx, v.ID); err != nil {
			return err
		}
	}
	if err := r.staging.Remove(ctx, server); err != nil {
		return err
	}
	_, err = r.store.Servers.Update(ctx, server, func(rec *protocol.Server) error { rec.Test = nil; return nil })
	return err
}

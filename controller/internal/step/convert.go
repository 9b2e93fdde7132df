package step

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/target"
	"rehost/internal/cloud"
	"rehost/internal/passphrase"
	"rehost/protocol"
)

// What conversions are made of, where the launch block does not say.
const (
	ConversionImage = "rehost-convert"
	ConversionType  = "t3.small"
)

const (
	conversionGroup   = "rehost-conversion"
	consoleWithin     = 2 * time.Minute // the console's text may come late
	consoleLines      = 15              // shown when a conversion says nothing
	conversionPurpose = "test"
)

// convert makes the clones bootable, in an instance that has nothing but them.
func convert(ctx context.Context, w *Work) error {
	if w.attempt > 1 && w.data(dataConverted) == "" && w.data(dataTry) != strconv.Itoa(w.attempt) {
		// A conversion that was cut off may have left anything on the clones.
		if err := w.discardConversion(ctx); err != nil {
			return err
		}
		if err := w.set(ctx, dataTry, strconv.Itoa(w.attempt), dataClones, "", dataConversion, ""); err != nil {
			return err
		}
	}
	if w.data(dataConverted) == "" {
		// A conversion that runs has its clones. To wait for them again would only write other words into the record,
		// and these back again, each time that a controller takes over.
		if w.data(dataConversion) == "" {
			if err := makeClones(ctx, w); err != nil {
				return err
			}
		}
		if err := w.runConversion(ctx); err != nil {
			return err
		}
	}
	if err := w.endConversion(ctx); err != nil {
		return err
	}
	w.progress(ctx)(fmt.Sprintf("%d changes", len(w.state().Changes)))
	return nil
}

func (w *Work) runConversion(ctx context.Context) error {
	inst, err := w.launchConversion(ctx)
	if err != nil {
		return err
	}
	if err := w.set(ctx, dataConversion, inst.ID); err != nil {
		return err
	}
	if err := w.feedConversion(ctx, inst.ID); err != nil {
		return err
	}
	w.progress(ctx)("converting in " + inst.ID)
	if _, err := w.cloud.WaitInstance(ctx, inst.ID, cloud.InstanceStopped, nil); err != nil {
		return err
	}
	report, err := w.conversionReport(ctx, inst.ID)
	if err != nil {
		return err
	}
	if err := w.update(ctx, func(_ *protocol.Job, js *protocol.JobServer) {
		js.Scripts, js.Findings = report.Scripts, report.Findings
	}); err != nil {
		return err
	}
	if !report.OK {
		return &final{conversionProblem(report)}
	}
	return w.update(ctx, func(_ *protocol.Job, js *protocol.JobServer) {
		js.Changes, js.Guest = report.Changes, &report.Guest
		js.Data[dataConverted], js.Data[dataBootMode], js.Data[dataWritten] = "yes", report.Guest.BootMode, strings.Join(report.Written, ",")
	})
}

func conversionProblem(report protocol.ConversionReport) error {
	if report.Problem != nil {
		p := *report.Problem
		if p.Code == "" {
			p.Code = protocol.ProblemConversion
		}
		return &p
	}
	return &protocol.Problem{Code: protocol.ProblemConversion, Message: "the conversion failed and said no reason"}
}

func (w *Work) launchConversion(ctx context.Context) (cloud.Instance, error) {
	server, launch, err := w.settings()
	if err != nil {
		return cloud.Instance{}, err
	}
	image, err := w.cloud.FindImage(ctx, or(launch.ConversionImage, ConversionImage))
	if err != nil {
		return cloud.Instance{}, err
	}
	subnet := w.subnet(launch)
	group, err := w.cloud.EnsureSecurityGroup(ctx, cloud.GroupSpec{
		Name: conversionGroup, Description: "rehost conversions: nothing comes in or goes out", Subnet: subnet, Closed: true,
		Tags: cloud.Tags{cloud.TagRole: cloud.RoleConversion, cloud.TagName: conversionGroup},
	})
	if err != nil {
		return cloud.Instance{}, err
	}
	zone, err := w.zone(ctx, launch)
	if err != nil {
		return cloud.Instance{}, err
	}
	purpose := conversionPurpose
	if w.kind == protocol.JobCutover {
		purpose = "cutover"
	}
	settings, err := conversionSettings(launch, w.kind)
	if err != nil {
		return cloud.Instance{}, err
	}
	if !w.ready { // a copy that is only booted joins and registers nothing
		settings.Scripts = append(settings.Scripts, protocol.FirstBootScripts(w.store.Applied().ActionsOf(server, w.kind))...)
	}
	disks, err := w.conversionDisks()
	if err != nil {
		return cloud.Instance{}, err
	}
	order, err := json.Marshal(protocol.ConversionOrder{
		Job: w.job, Server: w.server, Purpose: purpose, Disks: disks, Options: settings,
	})
	if err != nil {
		return cloud.Instance{}, fmt.Errorf("encode the conversion's order: %w", err)
	}
	return w.cloud.RunInstance(ctx, cloud.InstanceSpec{
		Token: staging.Token(w.job, w.server, "convert", strconv.Itoa(w.attempt)), Image: image.ID, Type: or(launch.ConversionType, ConversionType),
		Subnet: subnet, Zone: zone, SecurityGroups: []string{group}, UserData: order, Own: true,
		Tags: named(w.tags(cloud.RoleConversion), "rehost-convert-"+w.server, nil),
	})
}

// conversionDisks are the clones, the boot disk's first.
func (w *Work) conversionDisks() ([]protocol.ConversionDisk, error) {
	rec, err := w.record()
	if err != nil {
		return nil, err
	}
	clones := w.list(dataClones)
	var disks []protocol.ConversionDisk
	for _, i := range convertible(rec.Volumes) {
		disks = append(disks, protocol.ConversionDisk{Volume: clones[i], Boot: rec.Volumes[i].Boot})
	}
	return disks, nil
}

// scriptTime is how much longer the conversion may take because of the owner's scripts.
func scriptTime(w *Work) time.Duration {
	_, launch, err := w.settings()
	if err != nil {
		return 0 // the step will say so
	}
	return protocol.ScriptTime(launch.Scripts)
}

// conversionSettings are what the launch block says of the conversion. The passphrase is read here and nowhere kept: it is in the
// user data of the conversion's instance, and ends with it.
func conversionSettings(launch protocol.LaunchSettings, kind protocol.JobKind) (protocol.ConversionSettings, error) {
	s := protocol.ConversionSettings{Network: launch.Network, Scripts: slices.Clone(launch.Scripts), Identity: protocol.IdentityKeep}
	if kind == protocol.JobTest && launch.TestIdentity != "" {
		s.Identity = launch.TestIdentity
	}
	if launch.PassphraseFile == "" {
		return s, nil
	}
	var err error
	s.Passphrase, err = passphrase.ReadFile(launch.PassphraseFile)
	return s, err
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// feedConversion attaches the clones as soon as the instance runs. One that has stopped
// already had them: then this run was cut off before, and only the report is missing.
func (w *Work) feedConversion(ctx context.Context, instance string) error {
	var inst cloud.Instance
	err := await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		var err error
		inst, err = w.cloud.Instance(ctx, instance)
		if cloud.NotFound(err) {
			return false, nil // not visible yet; the deadline bounds it
		}
		return inst.State != cloud.InstancePending, err
	})
	if err != nil {
		return err
	}
	if inst.State != cloud.InstanceRunning {
		return nil
	}
	disks, err := w.conversionDisks()
	if err != nil {
		return err
	}
	for _, d := range disks {
		if err := w.cloud.AttachVolume(ctx, d.Volume, instance, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *Work) conversionReport(ctx context.Context, instance string) (protocol.ConversionReport, error) {
	var report protocol.ConversionReport
	console := ""
	late := time.Now().Add(consoleWithin)
	err := await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		var err error
		if console, err = w.cloud.ConsoleOutput(ctx, instance); err != nil {
			return false, err
		}
		found, ok, err := protocol.ParseConsole(console)
		if err != nil {
			return false, err
		}
		if ok && found.Job == w.job {
			report = found
			return true, nil
		}
		if time.Now().After(late) {
			return false, &protocol.Problem{
				Code: protocol.ProblemConversion, Message: "the conversion instance stopped without a report; its console ends with:\n" + target.Tail(console, consoleLines),
				Hint: "look at the console text above; `rehost job show` has the whole job",
			}
		}
		return false, nil
	})
	return report, err
}

// endConversion terminates this job's conversion instances of the server.
func (w *Work) endConversion(ctx context.Context) error {
	return w.terminateAll(ctx, w.tags(cloud.RoleConversion))
}

// discardConversion removes the conversion instances and the clones of this job and server.
func (w *Work) discardConversion(ctx context.Context) error {
	if err := w.endConversion(ctx); err != nil {
		return err
	}
	return w.discardClones(ctx)
}

func (w *Work) discardClones(ctx context.Context) error {
	volumes, err := w.cloud.Volumes(ctx, w.tags(cloud.RoleClone))
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := w.cloud.DeleteVolume(ctx, v.ID); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) terminateAll(ctx context.Context, tags cloud.Tags) error {
	list, err := r.cloud.Instances(ctx, tags)
	if err != nil {
		return err
	}
	for _, inst := range list {
		if inst.State == cloud.InstanceTerminated {
			continue
		}
		if err := r.cloud.TerminateInstance(ctx, inst.ID, nil); err != nil {
			return err
		}
	}
	return nil
}

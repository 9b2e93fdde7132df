package staging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

const groupName = "rehost-replicaserver"

// stepFunc takes one initiation step as far as it goes now; detail is for people.
type stepFunc func(ctx context.Context, w *work) (done bool, detail string, err error)

// steps are the initiation steps, in the order of [protocol.InitiationSteps].
var steps = []stepFunc{
	waitForAgent, createSecurityGroup, launchReplicaServer, bootReplicaServer, authenticate, downloadSoftware,
	createVolumes, attachVolumes, pair, connectAgent, startTransfer,
}

// What replication servers are made of, where the replication block does not say.
const (
	DefaultImage    = "rehost-replicaserver"
	DefaultType     = "t3.small"
	DefaultCapacity = 15 // volumes on one replication server
)

// waitForAgent waits until the agent has said which disks there are, and writes down what is to be made for them.
func waitForAgent(ctx context.Context, w *work) (bool, string, error) {
	if !w.agentKnown || len(w.agent.Disks) == 0 {
		return false, "waiting for the agent's first report", nil
	}
	if len(w.rec.Volumes) > 0 && w.rec.Generation != "" {
		return true, "", nil
	}
	volumes, err := planVolumes(w.settings.Disks, w.agent.Disks)
	if err != nil {
		return false, "", err
	}
	generation := random(8)
	return true, fmt.Sprintf("%d disks", len(volumes)), w.update(ctx, func(r *protocol.Server) {
		r.Volumes, r.Generation, r.Stream = volumes, generation, protocol.StreamName(r.Name, generation)
	})
}

// planVolumes says which volumes the agent's disks need.
func planVolumes(wanted []string, disks []protocol.DiskReport) ([]protocol.StagingVolume, error) {
	refuse := func(advice, format string, args ...any) error {
		return &protocol.Problem{Code: protocol.ProblemAgentDisk, Message: fmt.Sprintf(format, args...), Hint: advice}
	}
	var out []protocol.StagingVolume
	boot := 0
	for _, d := range disks {
		if len(wanted) > 0 && !slices.Contains(wanted, d.Name) {
			return nil, refuse("name the same disks in the server block and in agent.hcl", "the agent replicates %s, which the server block does not name", d.Name)
		}
		if d.SizeBytes <= 0 {
			return nil, refuse("take it out of the disks", "disk %s has no bytes", d.Name)
		}
		if d.Boot {
			boot++
		}
		out = append(out, protocol.StagingVolume{Disk: d.Name, SizeBytes: d.SizeBytes, Boot: d.Boot})
	}
	if len(wanted) > 0 && len(out) != len(wanted) {
		return nil, refuse("name the same disks in the server block and in agent.hcl", "the agent replicates %d disks, the server block names %d", len(out), len(wanted))
	}
	if boot == 0 && len(out) == 1 {
		out[0].Boot, boot = true, 1
	}
	if boot != 1 {
		return nil, refuse("replicate the disk with the root filesystem, and only one such disk", "%d of the agent's %d disks are boot disks", boot, len(out))
	}
	return out, nil
}

func createSecurityGroup(ctx context.Context, w *work) (bool, string, error) {
	id, err := w.group(ctx)
	return err == nil, id, err
}

func (w *work) group(ctx context.Context) (string, error) {
	return w.cloud.EnsureSecurityGroup(ctx, cloud.GroupSpec{
		Name: groupName, Description: "rehost replication servers: nothing comes in", Subnet: w.replication.Subnet,
		Tags: cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer, cloud.TagName: groupName},
	})
}

// launchReplicaServer chooses a replication server with room, or makes one.
func launchReplicaServer(ctx context.Context, w *work) (bool, string, error) {
	name, err := w.choose(ctx)
	if err != nil {
		return false, "", err
	}
	if err := w.update(ctx, func(r *protocol.Server) { r.Replica = name }); err != nil {
		return false, "", err
	}
	return ensureInstance(ctx, w)
}

// ensureInstance launches the instance of the server's replication server, unless it was launched before.
func ensureInstance(ctx context.Context, w *work) (bool, string, error) {
	rs, err := w.store.Staging.Get(w.rec.Replica)
	if err != nil {
		return false, "", err
	}
	if rs.Instance != "" {
		return true, rs.Instance, nil
	}
	// Each of its servers comes here, and EC2 allows two launches a second.
	id, err, _ := w.launches.Do(rs.Name, func() (any, error) { return w.launchOnce(ctx, rs.Name) })
	if err != nil {
		return false, "", err
	}
	return true, id.(string), nil
}

// launchOnce launches a replication server's instance, unless its record has one by now, and returns the instance's id.
func (w *work) launchOnce(ctx context.Context, name string) (string, error) {
	if rs, err := w.store.Staging.Get(name); err != nil || rs.Instance != "" {
		return rs.Instance, err
	}
	inst, err := w.launch(ctx, name)
	if err != nil {
		return "", err
	}
	_, err = w.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error {
		rs.Instance, rs.Zone = inst.ID, inst.Zone
		return nil
	})
	return inst.ID, err
}

func (w *work) launch(ctx context.Context, name string) (cloud.Instance, error) {
	image := w.replication.Image
	if image == "" {
		image = DefaultImage
	}
	found, err := w.cloud.FindImage(ctx, image)
	if err != nil {
		return cloud.Instance{}, err
	}
	group, err := w.group(ctx)
	if err != nil {
		return cloud.Instance{}, err
	}
	data, err := w.bus.UserData(ctx, name)
	if err != nil {
		return cloud.Instance{}, err
	}
	text, err := json.Marshal(data)
	if err != nil {
		return cloud.Instance{}, fmt.Errorf("encode user data of %s: %w", name, err)
	}
	kind := w.replication.InstanceType
	if kind == "" {
		kind = DefaultType
	}
	return w.cloud.RunInstance(ctx, cloud.InstanceSpec{
		Token: Token(name, "replicaserver"), Image: found.ID, Type: kind, Subnet: w.replication.Subnet, Zone: w.rec.Zone,
		SecurityGroups: []string{group}, UserData: text, Own: true,
		Tags: cloud.Tags(w.replication.Tags).With(replicaServerTags(name)),
	})
}

func replicaServerTags(name string) cloud.Tags {
	return cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer, cloud.TagReplicaServer: name, cloud.TagName: "rehost-" + name}
}

func bootReplicaServer(ctx context.Context, w *work) (bool, string, error) {
	rs, err := w.store.Staging.Get(w.rec.Replica)
	if err != nil {
		return false, "", err
	}
	inst, err := w.cloud.Instance(ctx, rs.Instance)
	if err != nil {
		if cloud.NotFound(err) && time.Since(w.bootSince()) < w.cfg.ReplicaBoot {
			return false, "not visible yet", nil
		}
		return false, "", err
	}
	if !inst.Alive() {
		return false, "", hint.New(fmt.Sprintf("replication server %s: instance %s is %s %s", rs.Name, inst.ID, inst.State, inst.Reason),
			"another one is launched by itself; if this happens again, the reason is in the cloud: quotas, the subnet, the key of encrypted volumes")
	}
	if w.rec.Zone != "" && inst.Zone != w.rec.Zone {
		return false, "", hint.New(fmt.Sprintf("replication server %s is in zone %s, the volumes of %s are in %s", rs.Name, inst.Zone, w.rec.Name, w.rec.Zone),
			"set `subnet` of the replication block to one in "+w.rec.Zone)
	}
	if inst.State != cloud.InstanceRunning {
		return false, inst.State, nil
	}
	if rs.Zone != inst.Zone {
		_, err = w.store.Staging.Update(ctx, rs.Name, func(rs *protocol.ReplicaServer) error { rs.Zone = inst.Zone; return nil })
	}
	return err == nil, inst.ID, err
}

func authenticate(_ context.Context, w *work) (bool, string, error) {
	if _, _, ok := w.reports.ReplicaServer(w.rec.Replica); ok {
		return true, w.rec.Replica, nil
	}
	if time.Since(w.bootSince()) > w.cfg.ReplicaBoot {
		return false, "", &protocol.Problem{
			Code:    protocol.ProblemReplicaUnreachable,
			Message: fmt.Sprintf("replication server %s has not reported within %s", w.rec.Replica, w.cfg.ReplicaBoot),
			Hint:    "look at its instance's console in the cloud; it must reach the bus's address and port",
		}
	}
	return false, "waiting for the first report of " + w.rec.Replica, nil
}

// bootSince is when the step before the boot ended. The time of a step itself starts anew after a failure.
func (w *work) bootSince() time.Time {
	if m := w.rec.Move; m != nil && m.Released.IsZero() {
		return m.Ordered
	}
	return w.rec.Initiation[slices.Index(protocol.InitiationSteps, protocol.StepLaunchReplicaServer)].At
}

func downloadSoftware(context.Context, *work) (bool, string, error) {
	return true, "the image carries it", nil
}

// createVolumes makes the volumes, empty, in the replication server's zone.
func createVolumes(ctx context.Context, w *work) (bool, string, error) {
	rs, err := w.store.Staging.Get(w.rec.Replica)
	if err != nil {
		return false, "", err
	}
	if w.rec.Zone == "" { // from now on they are bound to it
		if err := w.update(ctx, func(r *protocol.Server) { r.Zone = rs.Zone }); err != nil {
			return false, "", err
		}
	}
	for i, v := range w.rec.Volumes {
		if v.Volume != "" {
			continue
		}
		// First the record: a crash must not lead to another choice for a volume that exists.
		if err := w.update(ctx, func(r *protocol.Server) { r.Volumes[i].Type = w.volumeType(v) }); err != nil {
			return false, "", err
		}
		created, err := w.cloud.CreateVolume(ctx, cloud.VolumeSpec{
			Token: Token(w.rec.Name, w.rec.Generation, "volume", strconv.Itoa(i)), Zone: w.rec.Zone,
			SizeBytes: v.SizeBytes, Type: w.rec.Volumes[i].Type,
			IOPS: w.replication.Volumes.IOPS, MiBps: w.replication.Volumes.Throughput, KMSKey: w.replication.Volumes.KMSKey,
			Tags: cloud.Tags(w.replication.Tags).With(cloud.Tags{
				cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: w.rec.Name, cloud.TagGeneration: w.rec.Generation,
				cloud.TagDisk: v.Disk, cloud.TagName: "rehost-" + w.rec.Name + v.Disk,
			}),
		})
		if err != nil {
			return false, "", err
		}
		if created.SizeBytes > 0 && created.SizeBytes < v.SizeBytes {
			return false, "", &protocol.Problem{
				Code:    protocol.ProblemVolumeTooSmall,
				Message: fmt.Sprintf("volume %s has %d bytes, disk %s has %d", created.ID, created.SizeBytes, v.Disk, v.SizeBytes),
				Hint:    "delete the volume in the cloud; a new one is made",
			}
		}
		if err := w.update(ctx, func(r *protocol.Server) { r.Volumes[i].Volume = created.ID }); err != nil {
			return false, "", err
		}
	}
	return true, typesOf(w.rec.Volumes), nil
}

func attachVolumes(ctx context.Context, w *work) (bool, string, error) {
	rs, err := w.store.Staging.Get(w.rec.Replica)
	if err != nil {
		return false, "", err
	}
	for _, v := range w.rec.Volumes {
		if err := w.cloud.AttachVolume(ctx, v.Volume, rs.Instance, nil); err != nil {
			return false, "", err
		}
	}
	return true, rs.Instance, nil
}

// pair makes the stream; from now on the replication server's order names this server.
func pair(ctx context.Context, w *work) (bool, string, error) {
	if err := w.bus.EnsureStream(ctx, w.rec.Name, w.rec.Generation, w.replication.StreamBytes); err != nil {
		return false, "", err
	}
	status, ok := w.reports.Replica(w.rec.Replica, w.rec.Name, w.rec.Generation)
	if !ok {
		return false, "waiting for " + w.rec.Replica + " to open the volumes", nil
	}
	if len(status.Problems) > 0 {
		p := status.Problems[0]
		return false, "", &p
	}
	return true, w.rec.Replica, w.update(ctx, func(r *protocol.Server) { r.Replacing, r.Move = "", nil })
}

func connectAgent(ctx context.Context, w *work) (bool, string, error) {
	if w.rec.Wanted == protocol.WantNothing {
		if err := w.update(ctx, func(r *protocol.Server) { r.Wanted = protocol.WantReplicate }); err != nil {
			return false, "", err
		}
	}
	if w.agent.Generation != w.rec.Generation {
		return false, "waiting for the agent to take the order", nil
	}
	return true, "", nil
}

func startTransfer(ctx context.Context, w *work) (bool, string, error) {
	started := w.agent.Sent > 0 || w.agent.Durable.Seq > 0
	for _, d := range w.agent.Disks {
		started = started || d.Replicated > 0
	}
	if w.agent.Generation != w.rec.Generation || !started {
		return false, "waiting for the first byte", nil
	}
	return true, "", w.update(ctx, func(r *protocol.Server) {
		if r.FirstByte.IsZero() {
			r.FirstByte = time.Now()
		}
	})
}

// Paired says whether a server's replica is to be kept open by its replication server.
func Paired(r protocol.Server) bool {
	if r.Replica == "" || r.Generation == "" || len(r.Volumes) == 0 || len(r.Initiation) < len(steps) {
		return false
	}
	if m := r.Move; m != nil && !m.Releasing.IsZero() && m.Released.IsZero() {
		return false // it is to give the replica up
	}
	for _, v := range r.Volumes {
		if v.Volume == "" {
			return false
		}
	}
	i := slices.Index(protocol.InitiationSteps, protocol.StepPairReplicaServer)
	return r.Initiation[i].Status != protocol.StepNotStarted
}

// Initiated says whether all initiation steps are behind a server.
func Initiated(r protocol.Server) bool {
	return len(r.Initiation) > 0 && !slices.ContainsFunc(r.Initiation, func(i protocol.Initiation) bool {
		return i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped
	})
}

var errRetired = errors.New("the replication server is retired")

package staging

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/size"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// typesEvery is how often the cloud is asked whether somebody has changed the types of volumes that should have others.
const typesEvery = 10 * time.Minute

// volumeType returns the type with which a volume is to be made. One that was chosen stays.
func (w *work) volumeType(v protocol.StagingVolume) string {
	switch {
	case v.Type != "":
		return v.Type
	case w.replication.VolumeType == protocol.VolumeTypeAuto:
		return size.Volume(v.SizeBytes, writeRate(w.agent, v.Disk))
	}
	return w.replication.VolumeType
}

func writeRate(agent protocol.AgentReport, disk string) int64 {
	for _, d := range agent.Disks {
		if d.Name == disk {
			return d.WriteRate
		}
	}
	return 0
}

// typesOf says how many volumes there are of which types, for people.
func typesOf(volumes []protocol.StagingVolume) string {
	counts := map[string]int{}
	var kinds []string
	for _, v := range volumes {
		if counts[v.Type]++; !slices.Contains(kinds, v.Type) {
			kinds = append(kinds, v.Type)
		}
	}
	var parts []string
	for _, k := range kinds {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%d %s", counts[k], k)))
	}
	return strings.Join(parts, ", ") + " volumes"
}

// Advice says which staging volumes would better have another type by now. That is for a person to do: a change takes hours of the
// cloud's time and can be made every six hours only.
func Advice(rec protocol.Server, replication protocol.ReplicationSettings, agent protocol.AgentReport) []string {
	if replication.VolumeType != protocol.VolumeTypeAuto || agent.Server == "" {
		return nil
	}
	var out []string
	for _, v := range rec.Volumes {
		if v.Volume == "" {
			continue
		}
		if text := size.VolumeAdvice(v.Volume, v.Disk, v.Type, v.SizeBytes, writeRate(agent, v.Disk)); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// retype looks whether somebody has followed the advice.
func (w *work) retype(ctx context.Context) error {
	if len(Advice(w.rec, w.replication, w.agent)) == 0 || !w.mayAsk("volumes of "+w.rec.Name, typesEvery) {
		return nil
	}
	volumes, err := w.cloud.Volumes(ctx, cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: w.rec.Name})
	if err != nil {
		w.logger.Warn("look at the types of the staging volumes", "server", w.rec.Name, "error", err)
		return nil
	}
	return w.update(ctx, func(r *protocol.Server) {
		for i := range r.Volumes {
			for _, v := range volumes {
				if v.ID == r.Volumes[i].Volume && v.Type != "" {
					r.Volumes[i].Type = v.Type
				}
			}
		}
	})
}

package account

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/size"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/step"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Known is what is known of a server. Before its agent has reported, it has no disks.
type Known struct {
	Host     protocol.Host
	Disks    []protocol.DiskReport
	Staged   bool // its staging volumes are there
	Launched bool // it has its target, or is not to get one any more
}

// need is what the servers of a configuration still need.
type need struct {
	instances map[string]int   // that will run at the end, by type
	single    map[string]int64 // bytes of the largest volume, by type
	storage   map[string]int64 // bytes of volumes, by type
	snapshots int
	worked    map[string]bool // replication blocks that have made volumes
}

// needs adds up what is still to be made. Types that depend on a source which has not reported are left out.
func needs(f protocol.Fleet, known func(server string) Known) need {
	n := need{instances: map[string]int{}, single: map[string]int64{}, storage: map[string]int64{}, worked: map[string]bool{}}
	settings := fleet.Lookup(f)
	volumes, waiting := map[string]int{}, map[string]bool{}
	for _, s := range f.Servers {
		k := known(s.Name)
		if k.Staged {
			n.worked[s.Replication] = true
		}
		if k.Launched {
			continue
		}
		_, r, l, _ := settings(s.Name)
		n.snapshots += len(k.Disks) * (r.PointsKeep + 2)
		volumes[r.Name] += n.stage(r, k)
		waiting[l.Name] = true
		n.launch(l, k)
	}
	for _, r := range f.Replications {
		capacity := cmp.Or(r.VolumesPerServer, staging.DefaultCapacity)
		n.instances[cmp.Or(r.InstanceType, staging.DefaultType)] += (volumes[r.Name] + capacity - 1) / capacity
	}
	converters := map[string]int{} // one of each type is the least
	for _, l := range f.Launches {
		if waiting[l.Name] {
			converters[cmp.Or(l.ConversionType, step.ConversionType)] = 1
		}
	}
	for kind, one := range converters {
		n.instances[kind] += one
	}
	return n
}

// stage adds a server's staging volumes that are not there yet, and says how many these are: at least one.
func (n need) stage(r protocol.ReplicationSettings, k Known) int {
	if k.Staged {
		return 0
	}
	for _, d := range k.Disks {
		kind := r.VolumeType
		if kind == protocol.VolumeTypeAuto {
			kind = size.Volume(d.SizeBytes, d.WriteRate)
		}
		n.volume(kind, d.SizeBytes)
	}
	return max(len(k.Disks), 1)
}

// launch adds a server's target.
func (n need) launch(l protocol.LaunchSettings, k Known) {
	for _, d := range k.Disks {
		kind := l.VolumeType
		for _, own := range l.Disks {
			if own.Name == d.Name {
				kind = cmp.Or(own.VolumeType, kind)
			}
		}
		n.volume(kind, d.SizeBytes)
	}
	kind := cmp.Or(l.InstanceType, step.DefaultType)
	if kind == protocol.InstanceTypeAuto {
		chosen, err := size.Choose(k.Host.Cores, k.Host.MemoryBytes)
		if err != nil {
			return
		}
		kind = chosen
	}
	n.instances[kind]++
}

func (n need) volume(kind string, bytes int64) {
	kind = cmp.Or(kind, "gp3")
	n.storage[kind] += bytes
	n.single[kind] = max(n.single[kind], bytes)
}

// demand is what is needed of one quota, in its unit.
type demand struct {
	limit      cloud.Limit
	what, unit string
	need, used float64
	single     float64 // the largest piece of it
}

// quotas compares what is needed with what there may be.
func quotas(ctx context.Context, c Figures, n need) []protocol.Finding {
	demands, err := demandsOf(ctx, c, n)
	if err != nil {
		return []protocol.Finding{unknown("how much of the account's quotas is used", err)}
	}
	var out []protocol.Finding
	for _, d := range demands {
		if d.limit.Code == "" {
			out = append(out, unknown("the quota of "+d.what, fmt.Errorf("its type is not known here")))
			continue
		}
		limit, err := c.LimitOf(ctx, d.limit)
		if err != nil {
			out = append(out, unknown("the quota of "+d.what, err))
			continue
		}
		out = append(out, d.against(limit)...)
	}
	return out
}

func demandsOf(ctx context.Context, c Figures, n need) ([]demand, error) {
	byCode := map[string]*demand{}
	of := func(l cloud.Limit, what, unit string, used float64) *demand {
		if byCode[what+l.Code] == nil {
			byCode[what+l.Code] = &demand{limit: l, what: what, unit: unit, used: used}
		}
		return byCode[what+l.Code]
	}
	used, err := c.Used(ctx)
	if err != nil {
		return nil, err
	}
	for _, kind := range slices.Sorted(maps.Keys(n.instances)) {
		t, err := c.InstanceType(ctx, kind)
		if cloud.Unknown(err) || n.instances[kind] == 0 {
			continue // the preflight package says so
		}
		if err != nil {
			return nil, err
		}
		limit := cloud.CoreLimit(kind)
		d := of(limit, "running instances", "vCPUs", float64(used.Cores[limit.Code]))
		d.need += float64(t.Cores * n.instances[kind])
		d.single = max(d.single, float64(t.Cores))
	}
	for _, kind := range slices.Sorted(maps.Keys(n.storage)) {
		limit := cloud.StorageLimit(kind)
		d := of(limit, "storage of type "+kind, "TiB", float64(used.Storage[limit.Code])/tib)
		d.need += float64(n.storage[kind]) / tib
		d.single = float64(n.single[kind]) / tib
	}
	if n.snapshots > 0 {
		of(cloud.SnapshotLimit, "snapshots", "snapshots", 0).need = float64(n.snapshots)
	}
	var out []demand
	for _, k := range slices.Sorted(maps.Keys(byCode)) {
		out = append(out, *byCode[k])
	}
	return out, nil
}

const tib = 1 << 40

// against judges a quota: too small for one thing, it stops everything; too small for all, only for some at a time.
func (d demand) against(limit float64) []protocol.Finding {
	f := protocol.Finding{
		Severity: protocol.SeverityWarning, Code: protocol.FindingQuota, Subject: d.limit.Name,
		Message: fmt.Sprintf("the quota %q is %s %s, of which %s are used; what is still to be made needs %s", d.limit.Name, figure(limit), d.unit, figure(d.used), figure(d.need)),
		Hint: fmt.Sprintf("raise it before the first wave: aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value %s; or go wave by wave, "+
			"and finalize each", d.limit.Service, d.limit.Code, figure(d.used+d.need)),
	}
	switch {
	case d.single > limit:
		f.Severity = protocol.SeverityCritical
		f.Message += fmt.Sprintf("; one of them alone needs %s", figure(d.single))
	case d.used+d.need <= limit:
		return nil
	}
	return []protocol.Finding{f}
}

// figure is a number with as many decimals as it takes to see it.
func figure(n float64) string {
	if n == float64(int64(n)) {
		return fmt.Sprint(int64(n))
	}
	return fmt.Sprintf("%.3g", n)
}

func unknown(what string, err error) protocol.Finding {
	return protocol.Finding{
		Severity: protocol.SeverityInfo, Code: protocol.FindingCloudUnknown, Message: "not known: " + what + ": " + err.Error(),
		Hint: cmp.Or(hint.Of(err), "look at Service Quotas in the AWS console"),
	}
}

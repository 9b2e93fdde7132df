package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehost/internal/progress"
	"rehost/protocol"
)

// effects says what changes cost, for people, and adds it up.
type effects struct {
	view     View
	wanted   protocol.Fleet
	settings func(server string) (protocol.ServerSettings, protocol.ReplicationSettings, protocol.LaunchSettings, bool) // wanted ones

	synced, unknown int              // servers that are synced in full, and those of them whose disks are not known
	bytes           int64            // of the others
	needed          map[string][]int // by replication block: volumes of each server that is synced
	volumes, points int              // that are deleted
	deleted         int64            // bytes of the volumes
	instances       int              // that are terminated
}

func (e *effects) of(c *protocol.PlanChange) {
	say := func(format string, args ...any) { c.Effects = append(c.Effects, fmt.Sprintf(format, args...)) }
	switch {
	case c.Kind == kindServer && c.Action == protocol.PlanCreate:
		e.created(c.Name, say)
	case c.Kind == kindServer && c.Action == protocol.PlanRemove:
		e.removed(c.Name, say)
	case c.Action != protocol.PlanUpdate:
	case c.Kind == kindServer:
		e.server(c, say)
	case c.Kind == kindReplication:
		e.replication(c, say)
	case c.Kind == kindLaunch:
		say("for launches from now on")
		if changes(c, "network") {
			say("the agents of its servers look anew what a conversion would say")
		}
	case c.Kind == kindCheck || c.Kind == kindAction:
		say("for launches from now on")
	}
}

// changes says whether a change has a setting that begins with one of the names.
func changes(c *protocol.PlanChange, names ...string) bool {
	return slices.ContainsFunc(c.Fields, func(f protocol.FieldChange) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(f.Field, n) })
	})
}

func (e *effects) created(name string, say func(string, ...any)) {
	r, known := e.view.Servers[name]
	if !r.Finalized.IsZero() {
		say("its migration is complete: nothing is synced")
		return
	}
	disks := e.view.Disks[name]
	var size int64
	for _, d := range disks {
		size += d.SizeBytes
	}
	what := "full sync"
	if known {
		what = "full resync"
	}
	e.synced++
	if size == 0 {
		e.unknown++
		say("%s as soon as its agent reports", what)
	} else {
		e.bytes += size
		say("%s of %s: %s on %s", what, name, progress.Bytes(size), count(len(disks), "disk"))
	}
	s, replication, _, _ := e.settings(name)
	if e.needed == nil {
		e.needed = map[string][]int{}
	}
	e.needed[replication.Name] = append(e.needed[replication.Name], max(1, len(disks), len(s.Disks)))
}

func (e *effects) removed(name string, say func(string, ...any)) {
	r, known := e.view.Servers[name]
	switch {
	case !known:
		return
	case !r.Finalized.IsZero():
		say("its migration is complete: the launched instance stays")
		return
	case r.Generation == "":
		say("its agent is let go")
		return
	}
	var size int64
	for _, v := range r.Volumes {
		size += v.SizeBytes
	}
	points := e.view.Points[name]
	e.volumes, e.deleted, e.points = e.volumes+len(r.Volumes), e.deleted+size, e.points+points
	say("its replication ends: %s of %s and %s are deleted", count(len(r.Volumes), "volume"), progress.Bytes(size), count(points, "point"))
	if r.Test != nil && r.Test.Instance != "" {
		e.instances++
		say("its test instance %s is terminated", r.Test.Instance)
	}
}

func (e *effects) server(c *protocol.PlanChange, say func(string, ...any)) {
	r := e.view.Servers[c.Name]
	if changes(c, "disks") && r.Generation != "" {
		var size int64
		for _, d := range e.view.Disks[c.Name] {
			size += d.SizeBytes
		}
		say("its replica stays as it is until it is replicated anew, which is a full resync of %s: %s; name the disks in its agent.hcl too", c.Name, progress.Bytes(size))
	}
	if changes(c, "replication") && r.Replica != "" {
		say("its replication server and volumes stay: rehost server move moves it; bandwidth and points at once")
	}
	if changes(c, "launch", "checks", "actions") {
		say("for launches from now on")
	}
	if changes(c, "fence") {
		say("from the next cutover on")
	}
}

// atOnce are the settings of a replication block that count for what is there already.
var atOnce = []string{"bandwidth", "points_", "freeze_", "window_bytes", "replace_after_ns"}

// ofJobs is the one that counts for jobs.
const ofJobs = "concurrency"

func (e *effects) replication(c *protocol.PlanChange, say func(string, ...any)) {
	if changes(c, atOnce...) {
		say("bandwidth, window, freezes and points: at once")
	}
	if changes(c, ofJobs) {
		say("concurrency: for jobs from now on; one that runs keeps to the lower number")
	}
	rest := slices.ContainsFunc(c.Fields, func(f protocol.FieldChange) bool {
		return f.Field != ofJobs && !slices.ContainsFunc(atOnce, func(n string) bool { return strings.HasPrefix(f.Field, n) })
	})
	if !rest {
		return
	}
	there := 0
	for _, s := range e.wanted.Servers {
		if s.Replication == c.Name && e.view.Servers[s.Name].Replica != "" {
			there++
		}
	}
	text := "for replication servers, volumes and streams made from now on"
	if there > 0 {
		text += "; those of " + count(there, "server") + " stay as they are"
	}
	say("%s", text)
}

// sum says what all changes cost together.
func (e *effects) sum() []string {
	var out []string
	if e.synced > 0 {
		text := "full sync of " + count(e.synced, "server")
		if e.synced > e.unknown {
			text += ": " + progress.Bytes(e.bytes)
		}
		if e.unknown > 0 {
			text += fmt.Sprintf(", and the disks of %d, whose agents have not reported", e.unknown)
			if e.unknown == e.synced {
				text = "full sync of " + count(e.synced, "server") + ", whose disks are known when their agents report"
			}
		}
		out = append(out, text)
	}
	for _, name := range slices.Sorted(maps.Keys(e.needed)) {
		if n, kind := e.newReplicaServers(name); n > 0 {
			out = append(out, fmt.Sprintf("%s of replication %s: about %d (%s)", plural(n, "new replication server"), name, n, kind))
		}
	}
	if e.volumes > 0 {
		out = append(out, fmt.Sprintf("deleted: %s of %s, %s", count(e.volumes, "volume"), progress.Bytes(e.deleted), count(e.points, "point")))
	}
	if e.instances > 0 {
		out = append(out, "terminated: "+count(e.instances, "test instance"))
	}
	return out
}

// newReplicaServers estimates how many are launched for the servers that are new. Which one a server gets depends on who reports first.
func (e *effects) newReplicaServers(replication string) (n int, kind string) {
	i := slices.IndexFunc(e.wanted.Replications, func(r protocol.ReplicationSettings) bool { return r.Name == replication })
	if i < 0 {
		return 0, ""
	}
	r := e.wanted.Replications[i]
	if r.Dedicated {
		return len(e.needed[replication]), r.InstanceType
	}
	capacity := max(1, r.VolumesPerServer)
	free, volumes := 0, 0
	for _, rs := range e.view.Replicas {
		if rs.Replication != replication || rs.Retired || rs.Dedicated || !rs.Lost.IsZero() {
			continue
		}
		free += capacity
		for _, s := range rs.Servers {
			free -= len(e.view.Servers[s].Volumes)
		}
	}
	for _, s := range e.needed[replication] {
		volumes += s
	}
	return max(0, (volumes-max(free, 0)+capacity-1)/capacity), r.InstanceType
}

func count(n int, noun string) string {
	return fmt.Sprintf("%d %s", n, plural(n, noun))
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// Package leftover finds what carries our tags in the cloud and no record explains: what a crash of the cloud, a lost
// controller or a hand has left. Judging is pure; a target, on which users may work, is never a leftover.
package leftover

import (
	"context"
	"slices"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// young is how old a thing must be: the record of a new one may be on its way.
const young = time.Hour

// Cloud is what finding and removing needs of the cloud.
type Cloud interface {
	Instances(ctx context.Context, tags cloud.Tags) ([]cloud.Instance, error)
	Volumes(ctx context.Context, tags cloud.Tags) ([]cloud.Volume, error)
	Snapshots(ctx context.Context, tags cloud.Tags) ([]cloud.Snapshot, error)
	Images(ctx context.Context, tags cloud.Tags) ([]cloud.Image, error)
	TerminateInstance(ctx context.Context, id string, progress cloud.Progress) error
	DeleteVolume(ctx context.Context, volume string) error
	DeleteSnapshot(ctx context.Context, id string) error
	DeregisterImage(ctx context.Context, id string) error
}

// Records is what explains things.
type Records struct {
	Servers  []protocol.Server
	Points   []protocol.Point
	Jobs     []protocol.Job
	Replicas []protocol.ReplicaServer
}

// Explain says why a thing with these tags is there, or "".
func (r Records) Explain(id string, tags cloud.Tags) string {
	server, job := tags[cloud.TagServer], tags[cloud.TagJob]
	switch tags[cloud.TagRole] {
	case cloud.RoleReplicaServer:
		if slices.ContainsFunc(r.Replicas, func(rs protocol.ReplicaServer) bool { return rs.Name == tags[cloud.TagReplicaServer] }) {
			return "a replication server"
		}
	case cloud.RoleStagingVolume:
		if slices.ContainsFunc(r.Servers, func(s protocol.Server) bool {
			return s.Name == server && s.Generation == tags[cloud.TagGeneration] && s.Generation != ""
		}) {
			return "staging of " + server
		}
	case cloud.RolePointSnapshot:
		if slices.ContainsFunc(r.Points, func(p protocol.Point) bool { return p.Server == server && p.ID == tags[cloud.TagPoint] && !p.Cleared }) {
			return "a point of " + server
		}
	case cloud.RoleClone, cloud.RoleConversion:
		if r.runs(job) {
			return "job " + job
		}
	case cloud.RoleImage, cloud.RoleConvertedSnapshot:
		if r.runs(job) || slices.ContainsFunc(r.Servers, func(s protocol.Server) bool {
			return s.Name == server && (launchedBy(s.Test, job) || launchedBy(s.Cutover, job))
		}) {
			return "a launch of " + server
		}
	default:
		return "not ours to judge: " + id
	}
	return ""
}

func (r Records) runs(job string) bool {
	return slices.ContainsFunc(r.Jobs, func(j protocol.Job) bool { return j.ID == job && !j.Status.Ended() })
}

func launchedBy(l *protocol.Launched, job string) bool { return l != nil && l.Job == job }

// Find lists what is left, in the order in which it can be removed: instances before their volumes, images before their snapshots. The records must have been read before the cloud is
// asked: what came later is young.
func Find(ctx context.Context, c Cloud, r Records, now time.Time) ([]protocol.Leftover, error) {
	var out []protocol.Leftover
	add := func(kind, id string, tags cloud.Tags, born time.Time) {
		if now.Sub(born) < young || r.Explain(id, tags) != "" {
			return
		}
		out = append(out, protocol.Leftover{Kind: kind, ID: id, Role: tags[cloud.TagRole], Server: tags[cloud.TagServer], Job: tags[cloud.TagJob], Created: born})
	}
	for _, role := range []string{cloud.RoleReplicaServer, cloud.RoleConversion} {
		list, err := c.Instances(ctx, cloud.Tags{cloud.TagRole: role})
		if err != nil {
			return nil, err
		}
		for _, i := range list {
			if i.Alive() {
				add(protocol.LeftoverInstance, i.ID, i.Tags, i.Launched)
			}
		}
	}
	images, err := c.Images(ctx, cloud.Tags{cloud.TagRole: cloud.RoleImage})
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		add(protocol.LeftoverImage, i.ID, i.Tags, time.Time{})
	}
	for _, role := range []string{cloud.RoleStagingVolume, cloud.RoleClone} {
		list, err := c.Volumes(ctx, cloud.Tags{cloud.TagRole: role})
		if err != nil {
			return nil, err
		}
		for _, v := range list {
			add(protocol.LeftoverVolume, v.ID, v.Tags, v.Created)
		}
	}
	for _, role := range []string{cloud.RolePointSnapshot, cloud.RoleConvertedSnapshot} {
		list, err := c.Snapshots(ctx, cloud.Tags{cloud.TagRole: role})
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			add(protocol.LeftoverSnapshot, s.ID, s.Tags, s.Started)
		}
	}
	return out, nil
}

// Remove removes one thing.
func Remove(ctx context.Context, c Cloud, l protocol.Leftover) error {
	switch l.Kind {
	case protocol.LeftoverInstance:
		return c.TerminateInstance(ctx, l.ID, nil)
	case protocol.LeftoverImage:
		return c.DeregisterImage(ctx, l.ID)
	case protocol.LeftoverVolume:
		return c.DeleteVolume(ctx, l.ID)
	case protocol.LeftoverSnapshot:
		return c.DeleteSnapshot(ctx, l.ID)
	}
	return nil
}

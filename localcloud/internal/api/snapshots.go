package api

import (
	"context"
	"fmt"
	"strconv"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/state"
)

type xmlSnapshot struct {
	SnapshotID  string   `xml:"snapshotId"`
	VolumeID    string   `xml:"volumeId"`
	Status      string   `xml:"status,omitempty"`
	State       string   `xml:"state,omitempty"`
	StartTime   string   `xml:"startTime"`
	Completion  string   `xml:"completionTime,omitempty"`
	Progress    string   `xml:"progress"`
	OwnerID     string   `xml:"ownerId"`
	VolumeSize  int64    `xml:"volumeSize"`
	Description string   `xml:"description"`
	Tags        []xmlTag `xml:"tagSet>item"`
	Encrypted   bool     `xml:"encrypted"`
	KMSKeyID    string   `xml:"kmsKeyId,omitempty"`
	StorageTier string   `xml:"storageTier,omitempty"`
}

func snapshotXML(s *Server, st *state.State, n *state.Snapshot) xmlSnapshot {
	x := xmlSnapshot{
		SnapshotID: n.ID, VolumeID: n.VolumeID, Status: s.Cloud.SnapshotStatus(n), StartTime: stamp(n.Created),
		OwnerID: s.Cloud.Account, VolumeSize: n.SizeGiB, Description: n.Description, Tags: tagsXML(st, n.ID), Encrypted: n.Encrypted,
		KMSKeyID: n.KMSKeyID, StorageTier: "standard",
	}
	if x.Status == "completed" {
		x.Completion, x.Progress = x.StartTime, "100%"
	}
	return x
}

func createSnapshot(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("snapshot")
	volume, tags := p.need("VolumeId"), p.tags("snapshot")
	if *p.err != nil {
		return nil, *p.err
	}
	n, err := s.Cloud.CreateSnapshot(ctx, volume, p.str("Description"), tags)
	if err != nil {
		return nil, err
	}
	return snapshotXML(s, s.Cloud.Store.View(), n), nil
}

func createSnapshots(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("snapshot")
	r := cloud.SnapshotsRequest{
		InstanceID: p.need("InstanceSpecification.InstanceId"), Description: p.str("Description"),
		ExcludeBoot: p.boolean("InstanceSpecification.ExcludeBootVolume"), Exclude: p.list("InstanceSpecification.ExcludeDataVolumeId"),
		CopyTags: p.str("CopyTagsFromSource") == "volume", Tags: p.tags("snapshot"),
	}
	if *p.err != nil {
		return nil, *p.err
	}
	made, err := s.Cloud.CreateSnapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	var out struct {
		Snapshots []xmlSnapshot `xml:"snapshotSet>item"`
	}
	st := s.Cloud.Store.View()
	for _, n := range made {
		x := snapshotXML(s, st, n)
		// This call alone says state where the others say status.
		x.State, x.Status, x.StorageTier, x.Completion = x.Status, "", "", ""
		out.Snapshots = append(out.Snapshots, x)
	}
	return out, nil
}

func describeSnapshots(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := st.Snapshots
	if owners := p.list("Owner"); len(owners) > 0 && !s.owned(owners) {
		items = nil
	}
	found, next, err := query[state.Snapshot]{
		ids: "SnapshotId", code: "InvalidSnapshot", items: items, most: 1000,
		attributes: func(n *state.Snapshot) attributes {
			return attributes{
				"snapshot-id": one(n.ID), "volume-id": one(n.VolumeID), "status": one(s.Cloud.SnapshotStatus(n)), "progress": one(snapshotXML(s, st, n).Progress),
				"description": one(n.Description), "owner-id": one(s.Cloud.Account), "volume-size": one(fmt.Sprint(n.SizeGiB)),
				"encrypted": one(strconv.FormatBool(n.Encrypted)), "start-time": one(stamp(n.Created)), "storage-tier": one("standard"),
			}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Snapshots []xmlSnapshot `xml:"snapshotSet>item"`
		NextToken string        `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, n := range found {
		out.Snapshots = append(out.Snapshots, snapshotXML(s, st, n))
	}
	return out, nil
}

func deleteSnapshot(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("SnapshotId")
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.DeleteSnapshot(id)
}

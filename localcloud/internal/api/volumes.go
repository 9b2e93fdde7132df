package api

import (
	"context"
	"fmt"
	"strconv"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/state"
)

type xmlTag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

type xmlAttachment struct {
	VolumeID            string `xml:"volumeId"`
	InstanceID          string `xml:"instanceId"`
	Device              string `xml:"device"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type xmlVolume struct {
	VolumeID    string          `xml:"volumeId"`
	Size        int64           `xml:"size"`
	SnapshotID  string          `xml:"snapshotId"`
	Zone        string          `xml:"availabilityZone"`
	Status      string          `xml:"status"`
	CreateTime  string          `xml:"createTime"`
	Attachments []xmlAttachment `xml:"attachmentSet>item"`
	Tags        []xmlTag        `xml:"tagSet>item"`
	VolumeType  string          `xml:"volumeType"`
	IOPS        int64           `xml:"iops,omitempty"`
	Throughput  int64           `xml:"throughput,omitempty"`
	Encrypted   bool            `xml:"encrypted"`
	KMSKeyID    string          `xml:"kmsKeyId,omitempty"`
	MultiAttach bool            `xml:"multiAttachEnabled"`
}

func attachmentOf(v *state.Volume, status string) xmlAttachment {
	a := v.Attachment
	return xmlAttachment{v.ID, a.InstanceID, a.Device, status, stamp(a.At), a.DeleteOnTermination}
}

func volumeStatus(v *state.Volume) string {
	if v.Attachment != nil {
		return "in-use"
	}
	return "available"
}

func volumeXML(st *state.State, v *state.Volume) xmlVolume {
	x := xmlVolume{
		VolumeID: v.ID, Size: v.SizeGiB, SnapshotID: v.SnapshotID, Zone: v.Zone, Status: volumeStatus(v), CreateTime: stamp(v.Created),
		Tags: tagsXML(st, v.ID), VolumeType: v.Type, IOPS: v.IOPS, Throughput: v.Throughput, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID,
	}
	if v.Attachment != nil {
		x.Attachments = []xmlAttachment{attachmentOf(v, "attached")}
	}
	return x
}

func createVolume(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("volume")
	r := cloud.VolumeRequest{
		Mapping: state.Mapping{
			SnapshotID: p.str("SnapshotId"), SizeGiB: p.number("Size"), Type: p.str("VolumeType"), IOPS: p.number("Iops"),
			Throughput: p.number("Throughput"), Encrypted: p.boolean("Encrypted"), KMSKeyID: p.str("KmsKeyId"),
		},
		Zone: p.need("AvailabilityZone"), Tags: p.tags("volume"), Token: p.str("ClientToken"), Digest: p.digest(),
	}
	if *p.err != nil {
		return nil, *p.err
	}
	v, err := s.Cloud.CreateVolume(r)
	if err != nil {
		return nil, err
	}
	return volumeXML(s.Cloud.Store.View(), v), nil
}

func describeVolumes(_ context.Context, _ *Server, st *state.State, p params) (any, error) {
	found, next, err := query[state.Volume]{
		ids: "VolumeId", code: "InvalidVolume", items: st.Volumes, attributes: volumeAttributes, most: 1000,
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Volumes   []xmlVolume `xml:"volumeSet>item"`
		NextToken string      `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, v := range found {
		out.Volumes = append(out.Volumes, volumeXML(st, v))
	}
	return out, nil
}

func volumeAttributes(v *state.Volume) attributes {
	a := attributes{
		"volume-id": one(v.ID), "snapshot-id": one(v.SnapshotID), "status": one(volumeStatus(v)), "size": one(strconv.FormatInt(v.SizeGiB, 10)),
		"volume-type": one(v.Type), "availability-zone": one(v.Zone), "encrypted": one(strconv.FormatBool(v.Encrypted)), "create-time": one(stamp(v.Created)),
		"attachment.instance-id": nil, "attachment.device": nil, "attachment.status": nil, "attachment.delete-on-termination": nil,
	}
	if at := v.Attachment; at != nil {
		a["attachment.instance-id"], a["attachment.device"] = one(at.InstanceID), one(at.Device)
		a["attachment.status"], a["attachment.delete-on-termination"] = one("attached"), one(strconv.FormatBool(at.DeleteOnTermination))
	}
	return a
}

func deleteVolume(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("VolumeId")
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.DeleteVolume(id)
}

func attachVolume(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	volume, in, device := p.need("VolumeId"), p.need("InstanceId"), p.need("Device")
	if *p.err != nil {
		return nil, *p.err
	}
	v, err := s.Cloud.AttachVolume(ctx, volume, in, device)
	if err != nil {
		return nil, err
	}
	return attachmentOf(v, "attached"), nil
}

func detachVolume(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	volume := p.need("VolumeId")
	if *p.err != nil {
		return nil, *p.err
	}
	v, err := s.Cloud.DetachVolume(ctx, volume, p.str("InstanceId"), p.str("Device"))
	if err != nil {
		return nil, err
	}
	return attachmentOf(v, "detaching"), nil
}

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
	return xmlSnapshot{
		SnapshotID: n.ID, VolumeID: n.VolumeID, Status: "completed", StartTime: stamp(n.Created), Completion: stamp(n.Created), Progress: "100%",
		OwnerID: s.Cloud.Account, VolumeSize: n.SizeGiB, Description: n.Description, Tags: tagsXML(st, n.ID), Encrypted: n.Encrypted,
		KMSKeyID: n.KMSKeyID, StorageTier: "standard",
	}
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
				"snapshot-id": one(n.ID), "volume-id": one(n.VolumeID), "status": one("completed"), "progress": one("100%"),
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

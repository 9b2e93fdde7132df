package api

import (
	"context"
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
	InitRate    int64           `xml:"volumeInitializationRate,omitempty"`
}

func attachmentOf(v *state.Volume, status string) xmlAttachment {
	a := v.Attachment
	return xmlAttachment{v.ID, a.InstanceID, a.Device, status, stamp(a.At), a.DeleteOnTermination}
}

func volumeXML(s *Server, st *state.State, v *state.Volume) xmlVolume {
	x := xmlVolume{
		VolumeID: v.ID, Size: v.SizeGiB, SnapshotID: v.SnapshotID, Zone: v.Zone, Status: s.Cloud.VolumeStatus(v), CreateTime: stamp(v.Created),
		Tags: tagsXML(st, v.ID), VolumeType: v.Type, IOPS: v.IOPS, Throughput: v.Throughput, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID,
		InitRate: v.InitRate,
	}
	if v.Attachment != nil {
		x.Attachments = []xmlAttachment{attachmentOf(v, s.Cloud.AttachmentStatus(v.Attachment))}
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
		InitRate: p.optNumber("VolumeInitializationRate"),
	}
	if *p.err != nil {
		return nil, *p.err
	}
	v, err := s.Cloud.CreateVolume(r)
	if err != nil {
		return nil, err
	}
	return volumeXML(s, s.Cloud.Store.View(), v), nil
}

func describeVolumes(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	found, next, err := query[state.Volume]{
		ids: "VolumeId", code: "InvalidVolume", items: st.Volumes, attributes: volumeAttributes(s), most: 1000,
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
		out.Volumes = append(out.Volumes, volumeXML(s, st, v))
	}
	return out, nil
}

func volumeAttributes(s *Server) func(*state.Volume) attributes {
	return func(v *state.Volume) attributes {
		a := attributes{
			"volume-id": one(v.ID), "snapshot-id": one(v.SnapshotID), "status": one(s.Cloud.VolumeStatus(v)), "size": one(strconv.FormatInt(v.SizeGiB, 10)),
			"volume-type": one(v.Type), "availability-zone": one(v.Zone), "encrypted": one(strconv.FormatBool(v.Encrypted)), "create-time": one(stamp(v.Created)),
			"attachment.instance-id": nil, "attachment.device": nil, "attachment.status": nil, "attachment.delete-on-termination": nil,
		}
		if at := v.Attachment; at != nil {
			a["attachment.instance-id"], a["attachment.device"] = one(at.InstanceID), one(at.Device)
			a["attachment.status"], a["attachment.delete-on-termination"] = one(s.Cloud.AttachmentStatus(at)), one(strconv.FormatBool(at.DeleteOnTermination))
		}
		return a
	}
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
	return attachmentOf(v, "attaching"), nil
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

package api

import (
	"context"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlModification struct {
	VolumeID       string `xml:"volumeId"`
	State          string `xml:"modificationState"`
	Size           int64  `xml:"targetSize"`
	Type           string `xml:"targetVolumeType"`
	IOPS           int64  `xml:"targetIops,omitempty"`
	Throughput     int64  `xml:"targetThroughput,omitempty"`
	FromSize       int64  `xml:"originalSize"`
	FromType       string `xml:"originalVolumeType"`
	FromIOPS       int64  `xml:"originalIops,omitempty"`
	FromThroughput int64  `xml:"originalThroughput,omitempty"`
	Progress       int    `xml:"progress"`
	StartTime      string `xml:"startTime"`
	EndTime        string `xml:"endTime,omitempty"`
}

func modificationXML(s *Server, v *state.Volume) xmlModification {
	m := v.Modification
	x := xmlModification{
		VolumeID: v.ID, State: s.Cloud.ModificationStatus(m), StartTime: stamp(m.At),
		Size: m.To.SizeGiB, Type: m.To.Type, IOPS: m.To.IOPS, Throughput: m.To.Throughput,
		FromSize: m.From.SizeGiB, FromType: m.From.Type, FromIOPS: m.From.IOPS, FromThroughput: m.From.Throughput,
	}
	if x.State == "completed" {
		x.Progress, x.EndTime = 100, x.StartTime
	}
	return x
}

func modifyVolume(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("VolumeId")
	r := cloud.VolumeChange{SizeGiB: p.optNumber("Size"), Type: p.optStr("VolumeType"), IOPS: p.optNumber("Iops"), Throughput: p.optNumber("Throughput")}
	if *p.err != nil {
		return nil, *p.err
	}
	v, err := s.Cloud.ModifyVolume(id, r)
	if err != nil {
		return nil, err
	}
	return struct {
		Modification xmlModification `xml:"volumeModification"`
	}{modificationXML(s, v)}, nil
}

func describeModifications(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := map[string]*state.Volume{}
	for id, v := range st.Volumes {
		if v.Modification != nil {
			items[id] = v
		}
	}
	for _, id := range p.list("VolumeId") {
		switch {
		case st.Volumes[id] == nil:
			return nil, fault.NotFound("InvalidVolume", id)
		case items[id] == nil:
			return nil, fault.New("InvalidVolumeModification.NotFound", "Modification for volume '%s' does not exist.", id)
		}
	}
	found, next, err := query[state.Volume]{
		ids: "VolumeId", code: "InvalidVolume", items: items, most: 500,
		attributes: func(v *state.Volume) attributes {
			a := attributes{"volume-id": one(v.ID), "modification-state": nil, "target-volume-type": nil, "original-volume-type": nil}
			if m := v.Modification; m != nil {
				a["modification-state"] = one(s.Cloud.ModificationStatus(m))
				a["target-volume-type"], a["original-volume-type"] = one(m.To.Type), one(m.From.Type)
			}
			return a
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Modifications []xmlModification `xml:"volumeModificationSet>item"`
		NextToken     string            `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, v := range found {
		out.Modifications = append(out.Modifications, modificationXML(s, v))
	}
	return out, nil
}

package api

import (
	"context"
	"strconv"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlEBS struct {
	SnapshotID          string `xml:"snapshotId,omitempty"`
	VolumeSize          int64  `xml:"volumeSize"`
	VolumeType          string `xml:"volumeType"`
	IOPS                int64  `xml:"iops,omitempty"`
	Throughput          int64  `xml:"throughput,omitempty"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
	Encrypted           bool   `xml:"encrypted"`
	KMSKeyID            string `xml:"kmsKeyId,omitempty"`
}

type xmlMapping struct {
	DeviceName string `xml:"deviceName"`
	EBS        xmlEBS `xml:"ebs"`
}

type xmlImage struct {
	ImageID            string       `xml:"imageId"`
	Location           string       `xml:"imageLocation"`
	State              string       `xml:"imageState"`
	OwnerID            string       `xml:"imageOwnerId"`
	CreationDate       string       `xml:"creationDate"`
	Public             bool         `xml:"isPublic"`
	Architecture       string       `xml:"architecture"`
	ImageType          string       `xml:"imageType"`
	Name               string       `xml:"name"`
	Description        string       `xml:"description,omitempty"`
	RootDeviceType     string       `xml:"rootDeviceType"`
	RootDeviceName     string       `xml:"rootDeviceName,omitempty"`
	Mappings           []xmlMapping `xml:"blockDeviceMapping>item"`
	VirtualizationType string       `xml:"virtualizationType"`
	Hypervisor         string       `xml:"hypervisor"`
	ENASupport         bool         `xml:"enaSupport"`
	BootMode           string       `xml:"bootMode,omitempty"`
	IMDSSupport        string       `xml:"imdsSupport,omitempty"`
	TPMSupport         string       `xml:"tpmSupport,omitempty"`
	PlatformDetails    string       `xml:"platformDetails"`
	UsageOperation     string       `xml:"usageOperation"`
	Tags               []xmlTag     `xml:"tagSet>item"`
}

func rootType(im *state.Image) string {
	if im.Kind == state.Process {
		return "instance-store"
	}
	return "ebs"
}

func imageXML(s *Server, st *state.State, im *state.Image) xmlImage {
	x := xmlImage{
		ImageID: im.ID, Location: s.Cloud.Account + "/" + im.Name, State: "available", OwnerID: s.Cloud.Account, CreationDate: stamp(im.Created),
		Architecture: im.Architecture, ImageType: "machine", Name: im.Name, Description: im.Description, RootDeviceType: rootType(im),
		RootDeviceName: im.RootDevice, VirtualizationType: "hvm", Hypervisor: "xen", ENASupport: im.ENA, BootMode: im.BootMode,
		IMDSSupport: im.IMDSSupport, TPMSupport: im.TPMSupport, PlatformDetails: "Linux/UNIX", UsageOperation: "RunInstances", Tags: tagsXML(st, im.ID),
	}
	for _, m := range im.Mappings {
		x.Mappings = append(x.Mappings, xmlMapping{m.Device, xmlEBS{
			SnapshotID: m.SnapshotID, VolumeSize: m.SizeGiB, VolumeType: m.Type, IOPS: m.IOPS, Throughput: m.Throughput,
			DeleteOnTermination: m.DeleteOnTermination, Encrypted: m.Encrypted, KMSKeyID: m.KMSKeyID,
		}})
	}
	return x
}

func registerImage(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("image", "snapshot")
	im := &state.Image{
		Name: p.need("Name"), Description: p.str("Description"), Architecture: p.str("Architecture"), BootMode: p.str("BootMode"),
		ENA: p.boolean("EnaSupport"), IMDSSupport: p.str("ImdsSupport"), TPMSupport: p.str("TpmSupport"), RootDevice: p.need("RootDeviceName"),
	}
	if im.Architecture == "" {
		im.Architecture = "i386" // EC2's default, which nobody means
	}
	if im.Architecture != "x86_64" {
		p.fail("architecture", im.Architecture, "The local cloud has x86_64 only.")
	}
	switch im.BootMode {
	case "", "legacy-bios", "uefi", "uefi-preferred":
	default:
		p.fail("bootMode", im.BootMode, "Use legacy-bios, uefi or uefi-preferred.")
	}
	for _, b := range p.structs("BlockDeviceMapping") {
		if p.has(b+"NoDevice") || p.has(b+"VirtualName") {
			continue
		}
		m := state.Mapping{DeleteOnTermination: true, Device: p.need(b + "DeviceName")}
		m.SnapshotID, m.SizeGiB, m.Type = p.str(b+"Ebs.SnapshotId"), p.number(b+"Ebs.VolumeSize"), p.str(b+"Ebs.VolumeType")
		m.IOPS, m.Throughput, m.Encrypted = p.number(b+"Ebs.Iops"), p.number(b+"Ebs.Throughput"), p.boolean(b+"Ebs.Encrypted")
		if d := p.optBool(b + "Ebs.DeleteOnTermination"); d != nil {
			m.DeleteOnTermination = *d
		}
		im.Mappings = append(im.Mappings, m)
	}
	tags := p.tags("image")
	if *p.err != nil {
		return nil, *p.err
	}
	im, err := s.Cloud.RegisterImage(im, tags)
	if err != nil {
		return nil, err
	}
	return struct {
		ImageID string `xml:"imageId"`
	}{im.ID}, nil
}

func describeImages(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := st.Images
	if owners := p.list("Owner"); len(owners) > 0 && !s.owned(owners) {
		items = nil
	}
	if q := p.list("ImageId"); len(q) > 0 {
		for _, id := range q {
			if items[id] == nil {
				return nil, fault.New("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
			}
		}
	}
	found, next, err := query[state.Image]{
		ids: "ImageId", code: "InvalidAMIID", items: items, most: 1000,
		attributes: func(im *state.Image) attributes {
			a := attributes{
				"image-id": one(im.ID), "name": one(im.Name), "description": one(im.Description), "state": one("available"), "architecture": one(im.Architecture),
				"owner-id": one(s.Cloud.Account), "root-device-name": one(im.RootDevice), "root-device-type": one(rootType(im)), "virtualization-type": one("hvm"),
				"boot-mode": one(im.BootMode), "ena-support": one(strconv.FormatBool(im.ENA)), "is-public": one("false"), "image-type": one("machine"),
				"creation-date": one(stamp(im.Created)), "hypervisor": one("xen"),
				"block-device-mapping.snapshot-id": nil, "block-device-mapping.device-name": nil,
			}
			for _, m := range im.Mappings {
				a["block-device-mapping.snapshot-id"] = append(a["block-device-mapping.snapshot-id"], m.SnapshotID)
				a["block-device-mapping.device-name"] = append(a["block-device-mapping.device-name"], m.Device)
			}
			return a
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Images    []xmlImage `xml:"imagesSet>item"`
		NextToken string     `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, im := range found {
		out.Images = append(out.Images, imageXML(s, st, im))
	}
	return out, nil
}

func deregisterImage(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("ImageId")
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.DeregisterImage(id)
}

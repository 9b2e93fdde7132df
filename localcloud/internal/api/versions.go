package api

import "rehost/localcloud/internal/state"

type xmlVersion struct {
	ID          string   `xml:"launchTemplateId"`
	Name        string   `xml:"launchTemplateName"`
	Number      int64    `xml:"versionNumber"`
	Description string   `xml:"versionDescription,omitempty"`
	Created     string   `xml:"createTime"`
	By          string   `xml:"createdBy"`
	Default     bool     `xml:"defaultVersion"`
	Data        xmlAsked `xml:"launchTemplateData"`
}

// xmlAsked is what a version sets.
type xmlAsked struct {
	ImageID      string            `xml:"imageId,omitempty"`
	Type         string            `xml:"instanceType,omitempty"`
	KeyName      string            `xml:"keyName,omitempty"`
	UserData     string            `xml:"userData,omitempty"`
	OnShutdown   string            `xml:"instanceInitiatedShutdownBehavior,omitempty"`
	NoTerminate  *bool             `xml:"disableApiTermination"`
	EBSOptimized *bool             `xml:"ebsOptimized"`
	Placement    *xmlPlacement     `xml:"placement"`
	Profile      *xmlProfile       `xml:"iamInstanceProfile"`
	Metadata     *xmlMetadataAsked `xml:"metadataOptions"`
	GroupIDs     []string          `xml:"securityGroupIdSet>item"`
	Groups       []string          `xml:"securityGroupSet>item"`
	Devices      []xmlAskedDevice  `xml:"blockDeviceMappingSet>item"`
	Interfaces   []xmlAskedNIC     `xml:"networkInterfaceSet>item"`
	Tags         []xmlAskedTags    `xml:"tagSpecificationSet>item"`
}

type xmlPlacement struct {
	Zone    string `xml:"availabilityZone,omitempty"`
	Tenancy string `xml:"tenancy,omitempty"`
}

type xmlProfile struct {
	ARN  string `xml:"arn,omitempty"`
	Name string `xml:"name,omitempty"`
}

type xmlMetadataAsked struct {
	Tokens   string `xml:"httpTokens,omitempty"`
	Endpoint string `xml:"httpEndpoint,omitempty"`
	HopLimit *int64 `xml:"httpPutResponseHopLimit"`
	Tags     string `xml:"instanceMetadataTags,omitempty"`
}

type xmlAskedDevice struct {
	Name string      `xml:"deviceName"`
	EBS  xmlAskedEBS `xml:"ebs"`
}

type xmlAskedEBS struct {
	SnapshotID          string `xml:"snapshotId,omitempty"`
	Size                *int64 `xml:"volumeSize"`
	Type                string `xml:"volumeType,omitempty"`
	IOPS                *int64 `xml:"iops"`
	Throughput          *int64 `xml:"throughput"`
	Encrypted           *bool  `xml:"encrypted"`
	KMSKeyID            string `xml:"kmsKeyId,omitempty"`
	DeleteOnTermination *bool  `xml:"deleteOnTermination"`
}

type xmlAskedNIC struct {
	Device   *int64   `xml:"deviceIndex"`
	Subnet   string   `xml:"subnetId,omitempty"`
	Address  string   `xml:"privateIpAddress,omitempty"`
	PublicIP *bool    `xml:"associatePublicIpAddress"`
	Groups   []string `xml:"groupSet>groupId"`
}

type xmlAskedTags struct {
	Resource string   `xml:"resourceType"`
	Tags     []xmlTag `xml:"tagSet>item"`
}

func versionXML(s *Server, t *state.Template, number int64) xmlVersion {
	v := t.Versions[number]
	p := newParams(templateValues(v))
	x := xmlVersion{
		ID: t.ID, Name: t.Name, Number: number, Description: v.Description, Created: stamp(v.Created), By: s.caller().ARN, Default: number == t.Default,
		Data: xmlAsked{
			ImageID: p.str("ImageId"), Type: p.str("InstanceType"), KeyName: p.str("KeyName"), UserData: p.str("UserData"),
			OnShutdown: p.str("InstanceInitiatedShutdownBehavior"), NoTerminate: p.optBool("DisableApiTermination"), EBSOptimized: p.optBool("EbsOptimized"),
			GroupIDs: p.list("SecurityGroupId"), Groups: p.list("SecurityGroup"),
		},
	}
	d := &x.Data
	if p.hasPrefix("Placement.") {
		d.Placement = &xmlPlacement{p.str("Placement.AvailabilityZone"), p.str("Placement.Tenancy")}
	}
	if p.hasPrefix("IamInstanceProfile.") {
		d.Profile = &xmlProfile{p.str("IamInstanceProfile.Arn"), p.str("IamInstanceProfile.Name")}
	}
	if m := "MetadataOptions."; p.hasPrefix(m) {
		d.Metadata = &xmlMetadataAsked{p.str(m + "HttpTokens"), p.str(m + "HttpEndpoint"), p.optNumber(m + "HttpPutResponseHopLimit"), p.str(m + "InstanceMetadataTags")}
	}
	for _, b := range p.structs("BlockDeviceMapping") {
		d.Devices = append(d.Devices, xmlAskedDevice{p.str(b + "DeviceName"), xmlAskedEBS{
			p.str(b + "Ebs.SnapshotId"), p.optNumber(b + "Ebs.VolumeSize"), p.str(b + "Ebs.VolumeType"), p.optNumber(b + "Ebs.Iops"),
			p.optNumber(b + "Ebs.Throughput"), p.optBool(b + "Ebs.Encrypted"), p.str(b + "Ebs.KmsKeyId"), p.optBool(b + "Ebs.DeleteOnTermination"),
		}})
	}
	for _, n := range p.structs("NetworkInterface") {
		d.Interfaces = append(d.Interfaces, xmlAskedNIC{
			p.optNumber(n + "DeviceIndex"), p.str(n + "SubnetId"), p.str(n + "PrivateIpAddress"), p.optBool(n + "AssociatePublicIpAddress"), p.list(n + "SecurityGroupId"),
		})
	}
	for i, spec := range p.structs("TagSpecification") {
		d.Tags = append(d.Tags, xmlAskedTags{Resource: p.str(spec + "ResourceType")})
		for _, tag := range p.structs(spec + "Tag") {
			d.Tags[i].Tags = append(d.Tags[i].Tags, xmlTag{p.str(tag + "Key"), p.str(tag + "Value")})
		}
	}
	return x
}

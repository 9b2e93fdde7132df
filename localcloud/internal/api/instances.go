package api

import (
	"context"
	"encoding/base64"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func phaseXML(p state.Phase) xmlState { return xmlState{p.Code(), string(p)} }

type xmlInstanceEBS struct {
	VolumeID            string `xml:"volumeId"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type xmlDevice struct {
	DeviceName string         `xml:"deviceName"`
	EBS        xmlInstanceEBS `xml:"ebs"`
}

type xmlGroupID struct {
	GroupID string `xml:"groupId"`
	Name    string `xml:"groupName"`
}

type xmlReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type xmlMetadata struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int64  `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	Tags     string `xml:"instanceMetadataTags"`
}

type xmlInterface struct {
	ID       string       `xml:"networkInterfaceId"`
	Subnet   string       `xml:"subnetId"`
	VPC      string       `xml:"vpcId"`
	Status   string       `xml:"status"`
	MAC      string       `xml:"macAddress"`
	Address  string       `xml:"privateIpAddress"`
	PublicIP string       `xml:"association>publicIp"`
	Device   int          `xml:"attachment>deviceIndex"`
	Deleted  bool         `xml:"attachment>deleteOnTermination"`
	Attached string       `xml:"attachment>status"`
	Groups   []xmlGroupID `xml:"groupSet>item"`
}

type xmlInstance struct {
	InstanceID     string         `xml:"instanceId"`
	ImageID        string         `xml:"imageId"`
	State          xmlState       `xml:"instanceState"`
	PrivateDNS     string         `xml:"privateDnsName"`
	PublicDNS      string         `xml:"dnsName"`
	Reason         string         `xml:"reason"`
	KeyName        string         `xml:"keyName,omitempty"`
	LaunchIndex    int            `xml:"amiLaunchIndex"`
	Type           string         `xml:"instanceType"`
	LaunchTime     string         `xml:"launchTime"`
	Zone           string         `xml:"placement>availabilityZone"`
	Tenancy        string         `xml:"placement>tenancy"`
	Monitoring     string         `xml:"monitoring>state"`
	Subnet         string         `xml:"subnetId,omitempty"`
	VPC            string         `xml:"vpcId,omitempty"`
	PrivateIP      string         `xml:"privateIpAddress,omitempty"`
	PublicIP       string         `xml:"ipAddress,omitempty"`
	SourceDest     bool           `xml:"sourceDestCheck"`
	Groups         []xmlGroupID   `xml:"groupSet>item"`
	StateReason    *xmlReason     `xml:"stateReason"`
	Architecture   string         `xml:"architecture"`
	RootType       string         `xml:"rootDeviceType"`
	RootDevice     string         `xml:"rootDeviceName,omitempty"`
	Devices        []xmlDevice    `xml:"blockDeviceMapping>item"`
	Virtualization string         `xml:"virtualizationType"`
	ClientToken    string         `xml:"clientToken"`
	Tags           []xmlTag       `xml:"tagSet>item"`
	Hypervisor     string         `xml:"hypervisor"`
	Interfaces     []xmlInterface `xml:"networkInterfaceSet>item"`
	EBSOptimized   bool           `xml:"ebsOptimized"`
	ENA            bool           `xml:"enaSupport"`
	BootMode       string         `xml:"bootMode,omitempty"`
	CurrentMode    string         `xml:"currentInstanceBootMode,omitempty"`
	Metadata       xmlMetadata    `xml:"metadataOptions"`
	Profile        *xmlProfileID  `xml:"iamInstanceProfile"`
	CPU            xmlCPU         `xml:"cpuOptions"`
}

type xmlCPU struct {
	Cores   int `xml:"coreCount"`
	Threads int `xml:"threadsPerCore"`
}

// xmlProfileID is an instance profile. There is no IAM here: any name is taken.
type xmlProfileID struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type xmlReservation struct {
	ID        string        `xml:"reservationId"`
	OwnerID   string        `xml:"ownerId"`
	Instances []xmlInstance `xml:"instancesSet>item"`
}

func instanceXML(s *Server, st *state.State, in *state.Instance) xmlInstance {
	x := xmlInstance{
		InstanceID: in.ID, ImageID: in.ImageID, State: phaseXML(in.Phase), Reason: in.Reason, KeyName: in.KeyName, Type: in.Type, LaunchTime: stamp(in.Launched),
		Zone: in.Zone, Tenancy: in.Tenancy, LaunchIndex: in.LaunchIndex, Monitoring: "disabled", SourceDest: true, Architecture: in.Architecture, RootType: "ebs", RootDevice: in.RootDevice,
		Virtualization: "hvm", ClientToken: in.ClientToken, Tags: tagsXML(st, in.ID), Hypervisor: "xen", ENA: in.ENA, BootMode: in.BootMode, CurrentMode: cloud.BootMode(in),
		Metadata: xmlMetadata{"applied", in.Metadata.Tokens, in.Metadata.HopLimit, in.Metadata.Endpoint, in.Metadata.Tags}, CPU: xmlCPU{cloud.VCPUs(in.Type), 1},
	}
	if in.Kind == state.Process {
		x.RootType = "instance-store"
	}
	if in.ReasonCode != "" {
		x.StateReason = &xmlReason{in.ReasonCode, in.ReasonCode + ": " + in.Reason}
	}
	if in.Phase == state.Terminated {
		return x
	}
	first := in.First()
	x.Groups = groupsXML(st, first.Groups)
	x.Subnet, x.VPC, x.PrivateIP, x.PrivateDNS = first.SubnetID, s.Cloud.VPC(), first.Address, cloud.Hostname(in, s.Cloud.Region)
	if in.Phase != state.Stopped {
		x.PublicIP, x.PublicDNS = first.Address, x.PrivateDNS
	}
	for i, n := range in.Interfaces {
		x.Interfaces = append(x.Interfaces, xmlInterface{
			ID: n.ID, Subnet: n.SubnetID, VPC: s.Cloud.VPC(), Status: "in-use", MAC: n.MAC, Address: n.Address, Device: i, Attached: "attached", Deleted: true,
			Groups: groupsXML(st, n.Groups),
		})
	}
	x.Interfaces[0].PublicIP = x.PublicIP
	if in.Profile != "" {
		x.Profile = &xmlProfileID{in.Profile, "AIPA" + strings.ToUpper(in.ID[2:])}
	}
	for _, v := range st.VolumesOf(in) {
		a := v.Attachment
		x.Devices = append(x.Devices, xmlDevice{a.Device, xmlInstanceEBS{v.ID, "attached", stamp(a.At), a.DeleteOnTermination}})
	}
	return x
}

func groupsXML(st *state.State, ids []string) []xmlGroupID {
	var out []xmlGroupID
	for _, id := range ids {
		g := xmlGroupID{GroupID: id}
		if st.Groups[id] != nil {
			g.Name = st.Groups[id].Name
		}
		out = append(out, g)
	}
	return out
}

// reservationsXML puts the instances together that one call launched.
func reservationsXML(s *Server, st *state.State, found []*state.Instance) []xmlReservation {
	var out []xmlReservation
	for _, in := range found {
		i := slices.IndexFunc(out, func(r xmlReservation) bool { return r.ID == in.ReservationID })
		if i < 0 {
			i = len(out)
			out = append(out, xmlReservation{ID: in.ReservationID, OwnerID: s.Cloud.Account})
		}
		out[i].Instances = append(out[i].Instances, instanceXML(s, st, in))
	}
	return out
}

// largestUserData is EC2's limit, before base64.
const largestUserData = 16 << 10

func runInstances(ctx context.Context, s *Server, st *state.State, p params) (any, error) {
	digest := p.digest()
	p, err := fromTemplate(st, p)
	if err != nil {
		return nil, err
	}
	p.onlyTags("instance", "volume", "network-interface")
	r := cloud.RunRequest{
		ImageID: p.need("ImageId"), Type: p.str("InstanceType"), Zone: p.str("Placement.AvailabilityZone"), Tenancy: p.str("Placement.Tenancy"),
		Min: int(p.number("MinCount")), Max: int(p.number("MaxCount")), Profile: profile(s, p), UserData: p.base64("UserData"), KeyName: p.str("KeyName"), OnShutdown: p.str("InstanceInitiatedShutdownBehavior"),
		NoTerminate: p.boolean("DisableApiTermination"), InstanceTags: p.tags("instance"), VolumeTags: p.tags("volume"),
		Token: p.str("ClientToken"), Digest: digest, Overrides: overrides(p),
		Metadata: state.MetadataOptions{
			Tokens: p.str("MetadataOptions.HttpTokens"), Endpoint: p.str("MetadataOptions.HttpEndpoint"),
			Tags: p.str("MetadataOptions.InstanceMetadataTags"), HopLimit: p.number("MetadataOptions.HttpPutResponseHopLimit"),
		},
	}
	if r.Interfaces, err = interfaces(st, p); err != nil {
		return nil, err
	}
	defaults(&r)
	switch {
	case r.Min < 1 || r.Max < r.Min:
		p.fail("minCount", p.str("MinCount"), "There must be at least one instance, and maxCount may not be less.")
	case r.Max > 1 && r.Interfaces[0].Address != "":
		return nil, fault.New("InvalidParameterCombination", "A private IP address may not be given when more than one instance is launched.")
	}
	if r.Tenancy != "default" && r.Tenancy != "dedicated" && r.Tenancy != "host" {
		p.fail("tenancy", r.Tenancy, "Use default, dedicated or host.")
	}
	if len(r.UserData) > largestUserData {
		p.fail("UserData", "...", "User data is limited to 16384 bytes.")
	}
	if r.OnShutdown != "stop" && r.OnShutdown != "terminate" {
		p.fail("InstanceInitiatedShutdownBehavior", r.OnShutdown, "Use stop or terminate.")
	}
	if r.Metadata.Tokens != "required" && r.Metadata.Tokens != "optional" {
		p.fail("HttpTokens", r.Metadata.Tokens, "Use required or optional.")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	made, err := s.Cloud.RunInstances(ctx, r)
	if err != nil {
		return nil, err
	}
	return reservationsXML(s, s.Cloud.Store.View(), made)[0], nil
}

// profile returns the ARN of the instance profile that is asked for, or "".
func profile(s *Server, p params) string {
	arn, name := p.str("IamInstanceProfile.Arn"), p.str("IamInstanceProfile.Name")
	there := func(name string) bool { return len(s.Profiles) == 0 || slices.Contains(s.Profiles, name) }
	switch {
	case arn != "" && (!strings.Contains(arn, ":instance-profile/") || !there(path.Base(arn))):
		p.fail("iamInstanceProfile.arn", arn, "Invalid IAM Instance Profile ARN")
	case name != "" && (strings.ContainsAny(name, "/: ") || !there(name)):
		p.fail("iamInstanceProfile.name", name, "Invalid IAM Instance Profile name")
	case arn == "" && name != "":
		return "arn:aws:iam::" + s.Cloud.Account + ":instance-profile/" + name
	}
	return arn
}

// interfaces reads the network interfaces of a launch: either the list of them, or the one that stands at the top.
func interfaces(st *state.State, p params) ([]cloud.InterfaceRequest, error) {
	groups := p.list("SecurityGroupId")
	for _, name := range p.list("SecurityGroup") {
		g := groupByName(st, name)
		if g == nil {
			return nil, fault.NotFound("InvalidGroup", name)
		}
		groups = append(groups, g.ID)
	}
	top := cloud.InterfaceRequest{SubnetID: p.str("SubnetId"), Groups: groups, Address: p.str("PrivateIpAddress")}
	listed := p.structs("NetworkInterface")
	const both = "Network interfaces and an instance-level %s may not be specified on the same request"
	switch {
	case len(listed) == 0:
		return []cloud.InterfaceRequest{top}, nil
	case top.SubnetID != "":
		return nil, fault.New("InvalidParameterCombination", both, "subnet ID")
	case len(groups) > 0:
		return nil, fault.New("InvalidParameterCombination", both, "security groups")
	case top.Address != "":
		return nil, fault.New("InvalidParameterCombination", both, "private IP address")
	}
	var out []cloud.InterfaceRequest
	for _, n := range listed {
		out = append(out, cloud.InterfaceRequest{
			Index: p.number(n + "DeviceIndex"), SubnetID: p.str(n + "SubnetId"), Groups: p.list(n + "SecurityGroupId"), Address: p.str(n + "PrivateIpAddress"),
		})
	}
	slices.SortFunc(out, func(a, b cloud.InterfaceRequest) int { return int(a.Index - b.Index) })
	return out, nil
}

func defaults(r *cloud.RunRequest) {
	for field, value := range map[*string]string{
		&r.Type: "t3.small", &r.OnShutdown: "stop", &r.Tenancy: "default", &r.Metadata.Tokens: "required", &r.Metadata.Endpoint: "enabled", &r.Metadata.Tags: "disabled",
	} {
		if *field == "" {
			*field = value
		}
	}
	if r.Metadata.HopLimit == 0 {
		r.Metadata.HopLimit = 2
	}
}

func overrides(p params) []cloud.Override {
	var out []cloud.Override
	for _, b := range p.structs("BlockDeviceMapping") {
		out = append(out, cloud.Override{
			Device: p.need(b + "DeviceName"), NoDevice: p.has(b + "NoDevice"), SnapshotID: p.optStr(b + "Ebs.SnapshotId"), SizeGiB: p.optNumber(b + "Ebs.VolumeSize"),
			Type: p.optStr(b + "Ebs.VolumeType"), IOPS: p.optNumber(b + "Ebs.Iops"), Throughput: p.optNumber(b + "Ebs.Throughput"), Encrypted: p.optBool(b + "Ebs.Encrypted"),
			KMSKeyID: p.optStr(b + "Ebs.KmsKeyId"), DeleteOnTermination: p.optBool(b + "Ebs.DeleteOnTermination"),
		})
	}
	return out
}

func instanceAttributes(s *Server, st *state.State) func(*state.Instance) attributes {
	return func(in *state.Instance) attributes {
		a := attributes{
			"instance-id": one(in.ID), "image-id": one(in.ImageID), "instance-state-name": one(string(in.Phase)), "instance-state-code": one(strconv.Itoa(in.Phase.Code())),
			"instance-type": one(in.Type), "availability-zone": one(in.Zone), "subnet-id": one(in.First().SubnetID), "vpc-id": one(s.Cloud.VPC()), "private-ip-address": one(in.First().Address),
			"ip-address": one(in.First().Address), "tenancy": one(in.Tenancy), "iam-instance-profile.arn": one(in.Profile), "client-token": one(in.ClientToken), "key-name": one(in.KeyName), "reservation-id": one(in.ReservationID), "owner-id": one(s.Cloud.Account),
			"architecture": one(in.Architecture), "root-device-name": one(in.RootDevice), "instance.group-id": in.Groups(), "launch-time": one(stamp(in.Launched)),
			"block-device-mapping.volume-id": nil, "block-device-mapping.device-name": nil,
		}
		if in.ID == "" {
			return a
		}
		for _, v := range st.VolumesOf(in) {
			a["block-device-mapping.volume-id"] = append(a["block-device-mapping.volume-id"], v.ID)
			a["block-device-mapping.device-name"] = append(a["block-device-mapping.device-name"], v.Attachment.Device)
		}
		return a
	}
}

func describeInstances(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	found, next, err := query[state.Instance]{
		ids: "InstanceId", code: "InvalidInstanceID", items: st.Instances, attributes: instanceAttributes(s, st), most: 1000,
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Reservations []xmlReservation `xml:"reservationSet>item"`
		NextToken    string           `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	out.Reservations = reservationsXML(s, st, found)
	return out, nil
}

type xmlCheck struct {
	Name   string `xml:"name"`
	Status string `xml:"status"`
}

type xmlStatus struct {
	InstanceID string     `xml:"instanceId"`
	Zone       string     `xml:"availabilityZone"`
	State      xmlState   `xml:"instanceState"`
	System     string     `xml:"systemStatus>status"`
	SystemSet  []xmlCheck `xml:"systemStatus>details>item"`
	Instance   string     `xml:"instanceStatus>status"`
	InstSet    []xmlCheck `xml:"instanceStatus>details>item"`
}

func describeInstanceStatus(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := maps.Clone(st.Instances)
	if !p.boolean("IncludeAllInstances") {
		asked := p.list("InstanceId")
		maps.DeleteFunc(items, func(id string, in *state.Instance) bool {
			return in.Phase != state.Running && !slices.Contains(asked, id)
		})
	}
	found, next, err := query[state.Instance]{
		ids: "InstanceId", code: "InvalidInstanceID", items: items, attributes: instanceAttributes(s, st), most: 1000,
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Statuses  []xmlStatus `xml:"instanceStatusSet>item"`
		NextToken string      `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, in := range found {
		running := in.Phase == state.Running
		if !running && !p.boolean("IncludeAllInstances") {
			continue
		}
		x := xmlStatus{InstanceID: in.ID, Zone: in.Zone, State: phaseXML(in.Phase), System: "not-applicable", Instance: "not-applicable"}
		if running {
			// The machine runs; whether what is in it answers is for its clients to find out.
			x.System, x.Instance = "ok", "ok"
			x.SystemSet, x.InstSet = []xmlCheck{{"reachability", "passed"}}, []xmlCheck{{"reachability", "passed"}}
		}
		out.Statuses = append(out.Statuses, x)
	}
	return out, nil
}

type xmlChange struct {
	InstanceID string   `xml:"instanceId"`
	Current    xmlState `xml:"currentState"`
	Previous   xmlState `xml:"previousState"`
}

type xmlChanges struct {
	Changes []xmlChange `xml:"instancesSet>item"`
}

func changesXML(changes []cloud.Change, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	var out xmlChanges
	for _, ch := range changes {
		out.Changes = append(out.Changes, xmlChange{ch.ID, phaseXML(ch.To), phaseXML(ch.From)})
	}
	return out, nil
}

// instanceIDs are the instances that a call names; there must be one.
func instanceIDs(p params) ([]string, error) {
	p.need("InstanceId.1")
	return p.list("InstanceId"), *p.err
}

func startInstances(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	ids, err := instanceIDs(p)
	if err != nil {
		return nil, err
	}
	return changesXML(s.Cloud.Start(ctx, ids))
}

func stopInstances(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	ids, err := instanceIDs(p)
	if err != nil {
		return nil, err
	}
	return changesXML(s.Cloud.Stop(ids, p.boolean("Force")))
}

func terminateInstances(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	ids, err := instanceIDs(p)
	if err != nil {
		return nil, err
	}
	return changesXML(s.Cloud.Terminate(ids))
}

func rebootInstances(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	ids, err := instanceIDs(p)
	if err != nil {
		return nil, err
	}
	return nil, s.Cloud.Reboot(ctx, ids)
}

func consoleOutput(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("InstanceId")
	if *p.err != nil {
		return nil, *p.err
	}
	raw, at, err := s.Cloud.Console(id)
	if err != nil {
		return nil, err
	}
	return struct {
		InstanceID string `xml:"instanceId"`
		Timestamp  string `xml:"timestamp"`
		Output     string `xml:"output"`
	}{id, stamp(at), base64.StdEncoding.EncodeToString(raw)}, nil
}

func consoleScreenshot(ctx context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("InstanceId")
	if *p.err != nil {
		return nil, *p.err
	}
	raw, err := s.Cloud.Screenshot(ctx, id)
	if err != nil {
		return nil, err
	}
	return struct {
		InstanceID string `xml:"instanceId"`
		Image      string `xml:"imageData"`
	}{id, base64.StdEncoding.EncodeToString(raw)}, nil
}

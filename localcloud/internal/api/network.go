package api

import (
	"context"
	"fmt"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlSubnet struct {
	SubnetID  string   `xml:"subnetId"`
	ARN       string   `xml:"subnetArn"`
	State     string   `xml:"state"`
	VPC       string   `xml:"vpcId"`
	CIDR      string   `xml:"cidrBlock"`
	Available int      `xml:"availableIpAddressCount"`
	Zone      string   `xml:"availabilityZone"`
	ZoneID    string   `xml:"availabilityZoneId"`
	Default   bool     `xml:"defaultForAz"`
	PublicIP  bool     `xml:"mapPublicIpOnLaunch"`
	OwnerID   string   `xml:"ownerId"`
	Tags      []xmlTag `xml:"tagSet>item"`
}

func describeSubnets(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := map[string]*xmlSubnet{}
	for i, z := range s.Cloud.Zones() {
		id := s.Cloud.Subnet(z)
		items[id] = &xmlSubnet{
			SubnetID: id, ARN: fmt.Sprintf("arn:aws:ec2:%s:%s:subnet/%s", s.Cloud.Region, s.Cloud.Account, id), State: "available", VPC: s.Cloud.VPC(),
			// Every instance has an address of this block, whatever its zone.
			CIDR: "127.77.0.0/16", Available: 65000, Zone: z, ZoneID: fmt.Sprintf("lc-az%d", i+1), Default: true, OwnerID: s.Cloud.Account,
		}
	}
	found, next, err := query[xmlSubnet]{
		ids: "SubnetId", code: "InvalidSubnetID", items: items, most: 1000,
		attributes: func(n *xmlSubnet) attributes {
			return attributes{
				"subnet-id": one(n.SubnetID), "vpc-id": one(n.VPC), "availability-zone": one(n.Zone), "availability-zone-id": one(n.ZoneID),
				"state": one(n.State), "default-for-az": one(fmt.Sprint(n.Default)), "cidr-block": one(n.CIDR), "owner-id": one(n.OwnerID),
			}
		},
	}.run(st, p)
	return struct {
		Subnets   []*xmlSubnet `xml:"subnetSet>item"`
		NextToken string       `xml:"nextToken,omitempty"`
	}{found, next}, err
}

type xmlVPC struct {
	VPC     string   `xml:"vpcId"`
	State   string   `xml:"state"`
	CIDR    string   `xml:"cidrBlock"`
	Tenancy string   `xml:"instanceTenancy"`
	Default bool     `xml:"isDefault"`
	OwnerID string   `xml:"ownerId"`
	Tags    []xmlTag `xml:"tagSet>item"`
}

func describeVPCs(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	v := &xmlVPC{VPC: s.Cloud.VPC(), State: "available", CIDR: "127.77.0.0/16", Tenancy: "default", Default: true, OwnerID: s.Cloud.Account}
	found, next, err := query[xmlVPC]{
		ids: "VpcId", code: "InvalidVpcID", items: map[string]*xmlVPC{v.VPC: v}, most: 1000,
		attributes: func(v *xmlVPC) attributes {
			return attributes{"vpc-id": one(v.VPC), "state": one(v.State), "cidr": one(v.CIDR), "is-default": one(fmt.Sprint(v.Default)), "isDefault": one(fmt.Sprint(v.Default)), "owner-id": one(v.OwnerID)}
		},
	}.run(st, p)
	return struct {
		VPCs      []*xmlVPC `xml:"vpcSet>item"`
		NextToken string    `xml:"nextToken,omitempty"`
	}{found, next}, err
}

type xmlZone struct {
	Name   string `xml:"zoneName"`
	ID     string `xml:"zoneId"`
	State  string `xml:"zoneState"`
	Region string `xml:"regionName"`
	OptIn  string `xml:"optInStatus"`
	Group  string `xml:"groupName"`
	Type   string `xml:"zoneType"`
}

func describeZones(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := map[string]*xmlZone{}
	for i, z := range s.Cloud.Zones() {
		items[z] = &xmlZone{z, fmt.Sprintf("lc-az%d", i+1), "available", s.Cloud.Region, "opt-in-not-required", s.Cloud.Region, "availability-zone"}
	}
	found, _, err := query[xmlZone]{
		ids: "ZoneName", code: "InvalidZone", items: items, most: 1000,
		attributes: func(z *xmlZone) attributes {
			return attributes{"zone-name": one(z.Name), "zone-id": one(z.ID), "state": one(z.State), "region-name": one(z.Region), "zone-type": one(z.Type)}
		},
	}.run(st, p)
	return struct {
		Zones []*xmlZone `xml:"availabilityZoneInfo>item"`
	}{found}, err
}

type xmlRegion struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

func describeRegions(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	found, _, err := query[xmlRegion]{
		ids: "RegionName", code: "InvalidParameterValue", most: 1000,
		items: map[string]*xmlRegion{s.Cloud.Region: {s.Cloud.Region, s.Endpoint, "opt-in-not-required"}},
		attributes: func(r *xmlRegion) attributes {
			return attributes{"region-name": one(r.Name), "endpoint": one(r.Endpoint)}
		},
	}.run(st, p)
	return struct {
		Regions []*xmlRegion `xml:"regionInfo>item"`
	}{found}, err
}

type xmlRange struct {
	CIDR        string `xml:"cidrIp"`
	Description string `xml:"description,omitempty"`
}

type xmlPair struct {
	UserID      string `xml:"userId"`
	GroupID     string `xml:"groupId"`
	Description string `xml:"description,omitempty"`
}

type xmlPermission struct {
	Protocol string     `xml:"ipProtocol"`
	From     *int64     `xml:"fromPort"`
	To       *int64     `xml:"toPort"`
	Ranges   []xmlRange `xml:"ipRanges>item"`
	Groups   []xmlPair  `xml:"groups>item"`
}

type xmlGroup struct {
	GroupID     string          `xml:"groupId"`
	Name        string          `xml:"groupName"`
	Description string          `xml:"groupDescription"`
	VPC         string          `xml:"vpcId"`
	OwnerID     string          `xml:"ownerId"`
	Permissions []xmlPermission `xml:"ipPermissions>item"`
	Egress      []xmlPermission `xml:"ipPermissionsEgress>item"`
	Tags        []xmlTag        `xml:"tagSet>item"`
}

func (s *Server) permission(r state.Rule) xmlPermission {
	x := xmlPermission{Protocol: r.Protocol}
	if r.Protocol != "-1" {
		x.From, x.To = &r.From, &r.To
	}
	if r.CIDR != "" {
		x.Ranges = []xmlRange{{r.CIDR, r.Description}}
	}
	if r.SourceGroup != "" {
		x.Groups = []xmlPair{{s.Cloud.Account, r.SourceGroup, r.Description}}
	}
	return x
}

func describeGroups(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := st.Groups
	if names := p.list("GroupName"); len(names) > 0 {
		items = map[string]*state.Group{}
		for _, n := range names {
			g := groupByName(st, n)
			if g == nil {
				return nil, fault.NotFound("InvalidGroup", n)
			}
			items[g.ID] = g
		}
	}
	found, next, err := query[state.Group]{
		ids: "GroupId", code: "InvalidGroup", items: items, most: 1000,
		attributes: func(g *state.Group) attributes {
			return attributes{"group-id": one(g.ID), "group-name": one(g.Name), "description": one(g.Description), "vpc-id": one(s.Cloud.VPC()), "owner-id": one(s.Cloud.Account)}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Groups    []xmlGroup `xml:"securityGroupInfo>item"`
		NextToken string     `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, g := range found {
		x := xmlGroup{
			GroupID: g.ID, Name: g.Name, Description: g.Description, VPC: s.Cloud.VPC(), OwnerID: s.Cloud.Account, Tags: tagsXML(st, g.ID),
		}
		for _, r := range g.Egress {
			x.Egress = append(x.Egress, s.permission(r))
		}
		for _, r := range g.Rules {
			x.Permissions = append(x.Permissions, s.permission(r))
		}
		out.Groups = append(out.Groups, x)
	}
	return out, nil
}

func groupByName(st *state.State, name string) *state.Group {
	for _, g := range st.Groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

func createGroup(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("security-group")
	name, description, tags := p.need("GroupName"), p.need("GroupDescription"), p.tags("security-group")
	if *p.err != nil {
		return nil, *p.err
	}
	g, err := s.Cloud.CreateGroup(name, description, p.str("VpcId"), tags)
	if err != nil {
		return nil, err
	}
	return struct {
		GroupID string   `xml:"groupId"`
		Tags    []xmlTag `xml:"tagSet>item"`
	}{g.ID, tagsXML(s.Cloud.Store.View(), g.ID)}, nil
}

// groupID resolves a group given by id or by name.
func groupID(st *state.State, p params) (string, error) {
	if id := p.str("GroupId"); id != "" {
		return id, nil
	}
	name := p.need("GroupName")
	if *p.err != nil {
		return "", *p.err
	}
	g := groupByName(st, name)
	if g == nil {
		return "", fault.NotFound("InvalidGroup", name)
	}
	return g.ID, nil
}

func deleteGroup(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	id, err := groupID(st, p)
	if err != nil {
		return nil, err
	}
	if err := s.Cloud.DeleteGroup(id); err != nil {
		return nil, err
	}
	return struct {
		Return  bool   `xml:"return"`
		GroupID string `xml:"groupId"`
	}{true, id}, nil
}

type xmlRule struct {
	ID       string `xml:"securityGroupRuleId"`
	GroupID  string `xml:"groupId"`
	OwnerID  string `xml:"groupOwnerId"`
	Egress   bool   `xml:"isEgress"`
	Protocol string `xml:"ipProtocol"`
	From     int64  `xml:"fromPort"`
	To       int64  `xml:"toPort"`
	CIDR     string `xml:"cidrIpv4,omitempty"`
}

// allow answers AuthorizeSecurityGroupIngress and AuthorizeSecurityGroupEgress.
func allow(egress bool) action {
	return func(ctx context.Context, s *Server, st *state.State, p params) (any, error) {
		id, rules, err := readRules(st, p)
		if err != nil {
			return nil, err
		}
		if rules, err = s.Cloud.Allow(ctx, id, egress, rules); err != nil {
			return nil, err
		}
		var out struct {
			Return bool      `xml:"return"`
			Rules  []xmlRule `xml:"securityGroupRuleSet>item"`
		}
		out.Return = true
		for _, r := range rules {
			out.Rules = append(out.Rules, xmlRule{r.ID, id, s.Cloud.Account, egress, r.Protocol, r.From, r.To, r.CIDR})
		}
		return out, nil
	}
}

// revoke answers RevokeSecurityGroupIngress and RevokeSecurityGroupEgress.
func revoke(egress bool) action {
	return func(ctx context.Context, s *Server, st *state.State, p params) (any, error) {
		id, rules, err := readRules(st, p)
		if err != nil {
			return nil, err
		}
		return nil, s.Cloud.Revoke(ctx, id, egress, rules)
	}
}

func readRules(st *state.State, p params) (group string, rules []state.Rule, err error) {
	id, err := groupID(st, p)
	if err != nil {
		return "", nil, err
	}
	if p.has("IpProtocol") || p.has("CidrIp") {
		rules = append(rules, readRule(p, "", p.need("CidrIp"), "", ""))
	}
	for _, perm := range p.structs("IpPermissions") {
		for _, r := range p.structs(perm + "IpRanges") {
			rules = append(rules, readRule(p, perm, p.need(r+"CidrIp"), "", p.str(r+"Description")))
		}
		for _, g := range p.structs(perm + "Groups") {
			rules = append(rules, readRule(p, perm, "", p.need(g+"GroupId"), p.str(g+"Description")))
		}
	}
	if *p.err == nil && len(rules) == 0 {
		return "", nil, fault.Missing("IpPermissions")
	}
	return id, rules, *p.err
}

func readRule(p params, prefix, cidr, group, description string) state.Rule {
	r := state.Rule{Protocol: p.need(prefix + "IpProtocol"), From: p.number(prefix + "FromPort"), To: p.number(prefix + "ToPort"), CIDR: cidr, SourceGroup: group, Description: description}
	switch r.Protocol {
	case "6":
		r.Protocol = "tcp"
	case "17":
		r.Protocol = "udp"
	case "-1":
		r.From, r.To = -1, -1
	}
	if r.Protocol == "tcp" || r.Protocol == "udp" {
		if r.From < 0 || r.To > 65535 || r.From > r.To {
			p.fail("fromPort/toPort", fmt.Sprintf("%d-%d", r.From, r.To), "Ports are 0 to 65535.")
		}
	}
	return r
}

func describeInstanceTypes(_ context.Context, _ *Server, st *state.State, p params) (any, error) {
	items := map[string]*cloud.InstanceType{}
	for _, t := range cloud.InstanceTypes() {
		items[t.Name] = &t
	}
	for _, n := range p.list("InstanceType") {
		if items[n] == nil {
			return nil, fault.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", n)
		}
	}
	found, next, err := query[cloud.InstanceType]{
		ids: "InstanceType", code: "InvalidInstanceType", items: items, most: 100,
		attributes: func(t *cloud.InstanceType) attributes {
			return attributes{
				"instance-type": one(t.Name), "vcpu-info.default-vcpus": one(fmt.Sprint(t.VCPUs)), "memory-info.size-in-mib": one(fmt.Sprint(t.MemoryMiB)),
				"processor-info.supported-architecture": one("x86_64"), "current-generation": one("true"), "bare-metal": one("false"), "hypervisor": one("nitro"),
				"supported-boot-mode": one("legacy-bios"),
			}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Types     []xmlType `xml:"instanceTypeSet>item"`
		NextToken string    `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, t := range found {
		out.Types = append(out.Types, xmlType{
			Name: t.Name, Current: true, Usage: []string{"on-demand"}, RootTypes: []string{"ebs"}, Virtualization: []string{"hvm"}, Hypervisor: "nitro",
			Architectures: []string{"x86_64"}, VCPUs: t.VCPUs, MemoryMiB: t.MemoryMiB, EBSOptimized: "default", EBSEncryption: "supported", NVMe: "required",
			NICs: 1, ENA: "supported", BootModes: []string{"legacy-bios"},
		})
	}
	return out, nil
}

type xmlType struct {
	Name           string   `xml:"instanceType"`
	Current        bool     `xml:"currentGeneration"`
	Usage          []string `xml:"supportedUsageClasses>item"`
	RootTypes      []string `xml:"supportedRootDeviceTypes>item"`
	Virtualization []string `xml:"supportedVirtualizationTypes>item"`
	Hypervisor     string   `xml:"hypervisor"`
	Architectures  []string `xml:"processorInfo>supportedArchitectures>item"`
	VCPUs          int      `xml:"vCpuInfo>defaultVCpus"`
	MemoryMiB      int      `xml:"memoryInfo>sizeInMiB"`
	EBSOptimized   string   `xml:"ebsInfo>ebsOptimizedSupport"`
	EBSEncryption  string   `xml:"ebsInfo>encryptionSupport"`
	NVMe           string   `xml:"ebsInfo>nvmeSupport"`
	NICs           int      `xml:"networkInfo>maximumNetworkInterfaces"`
	ENA            string   `xml:"networkInfo>enaSupport"`
	BootModes      []string `xml:"supportedBootModes>item"`
}

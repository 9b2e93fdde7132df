package api

import (
	"context"
	"fmt"

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

// addresses of the block: 65,536 but the five that EC2 keeps of each.
const addresses = 1<<16 - 5

func describeSubnets(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := map[string]*xmlSubnet{}
	free := addresses
	for _, in := range st.Instances {
		if in.Ended.IsZero() {
			free -= len(in.Interfaces)
		}
	}
	for i, z := range s.Cloud.Zones() {
		id := s.Cloud.Subnet(z)
		items[id] = &xmlSubnet{
			SubnetID: id, ARN: fmt.Sprintf("arn:aws:ec2:%s:%s:subnet/%s", s.Cloud.Region, s.Cloud.Account, id), State: "available", VPC: s.Cloud.VPC(),
			// Every instance has an address of this block, whatever its zone.
			CIDR: "127.77.0.0/16", Available: free, Zone: z, ZoneID: zoneID(i), Default: true, OwnerID: s.Cloud.Account,
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

// zoneID is the id of the zone at an index of Zones.
func zoneID(i int) string { return fmt.Sprintf("lc-az%d", i+1) }

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
		items[z] = &xmlZone{z, zoneID(i), "available", s.Cloud.Region, "opt-in-not-required", s.Cloud.Region, "availability-zone"}
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

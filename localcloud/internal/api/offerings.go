package api

import (
	"context"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlOffering struct {
	Type         string `xml:"instanceType"`
	LocationType string `xml:"locationType"`
	Location     string `xml:"location"`
}

// describeOfferings lists which instance types there are where: all of them everywhere.
func describeOfferings(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	kind := p.str("LocationType")
	var locations []string
	switch kind {
	case "", "region":
		kind, locations = "region", []string{s.Cloud.Region}
	case "availability-zone":
		locations = s.Cloud.Zones()
	case "availability-zone-id":
		for i := range s.Cloud.Zones() {
			locations = append(locations, zoneID(i))
		}
	default:
		return nil, fault.Invalid("locationType", kind, "Use region, availability-zone or availability-zone-id.")
	}
	items := map[string]*xmlOffering{}
	for _, t := range cloud.InstanceTypes() {
		for _, l := range locations {
			items[t.Name+" "+l] = &xmlOffering{t.Name, kind, l}
		}
	}
	found, next, err := query[xmlOffering]{
		items: items, most: 1000,
		attributes: func(o *xmlOffering) attributes {
			return attributes{"instance-type": one(o.Type), "location": one(o.Location)}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	return struct {
		Offerings []*xmlOffering `xml:"instanceTypeOfferingSet>item"`
		NextToken string         `xml:"nextToken,omitempty"`
	}{found, next}, nil
}

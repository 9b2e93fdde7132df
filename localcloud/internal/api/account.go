package api

import (
	"context"
	"slices"
	"strconv"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// manyInstances stands for no limit: the call has no word for that.
const manyInstances = 1000

func describeAccount(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	type xmlAttribute struct {
		Name   string   `xml:"attributeName"`
		Values []string `xml:"attributeValueSet>item>attributeValue"`
	}
	instances := manyInstances
	if q := s.Cloud.Quotas.VCPUs; q > 0 {
		instances = q / 2 // the smallest type has two
	}
	known := []xmlAttribute{
		{"supported-platforms", []string{"VPC"}},
		{"default-vpc", []string{s.Cloud.VPC()}},
		{"max-instances", []string{strconv.Itoa(instances)}},
		{"vpc-max-security-groups-per-interface", []string{"5"}},
		{"max-elastic-ips", []string{"0"}},
		{"vpc-max-elastic-ips", []string{"0"}},
	}
	asked := p.list("AttributeName")
	var out struct {
		Attributes []xmlAttribute `xml:"accountAttributeSet>item"`
	}
	for _, name := range asked {
		if !slices.ContainsFunc(known, func(a xmlAttribute) bool { return a.Name == name }) {
			return nil, fault.Invalid("attributeName", name, "The local cloud does not know it.")
		}
	}
	for _, a := range known {
		if len(asked) == 0 || slices.Contains(asked, a.Name) {
			out.Attributes = append(out.Attributes, a)
		}
	}
	return out, nil
}

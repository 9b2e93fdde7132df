package api

import (
	"context"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

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

package api

import (
	"context"
	"fmt"
	"slices"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlRule struct {
	ID       string `xml:"securityGroupRuleId"`
	GroupID  string `xml:"groupId"`
	OwnerID  string `xml:"groupOwnerId"`
	Egress   bool   `xml:"isEgress"`
	Protocol string `xml:"ipProtocol"`
	From     int64  `xml:"fromPort"`
	To       int64  `xml:"toPort"`
	CIDR     string `xml:"cidrIpv4,omitempty"`
	// Source is the group whose members the rule is for.
	Source      *xmlPair `xml:"referencedGroupInfo"`
	Description string   `xml:"description,omitempty"`
	Tags        []xmlTag `xml:"tagSet>item"`
}

func ruleXML(s *Server, group string, egress bool, r state.Rule) xmlRule {
	x := xmlRule{
		ID: r.ID, GroupID: group, OwnerID: s.Cloud.Account, Egress: egress, Protocol: r.Protocol, From: r.From, To: r.To,
		CIDR: r.CIDR, Description: r.Description,
	}
	if r.SourceGroup != "" {
		x.Source = &xmlPair{UserID: s.Cloud.Account, GroupID: r.SourceGroup}
	}
	return x
}

func describeRules(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := map[string]*xmlRule{}
	for _, g := range st.Groups {
		for _, r := range g.Rules {
			items[r.ID] = new(ruleXML(s, g.ID, false, r))
		}
		for _, r := range g.Egress {
			items[r.ID] = new(ruleXML(s, g.ID, true, r))
		}
	}
	found, next, err := query[xmlRule]{
		ids: "SecurityGroupRuleId", code: "InvalidSecurityGroupRuleId", items: items, most: 1000,
		attributes: func(r *xmlRule) attributes {
			return attributes{"group-id": one(r.GroupID), "security-group-rule-id": one(r.ID)}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	return struct {
		Rules     []*xmlRule `xml:"securityGroupRuleSet>item"`
		NextToken string     `xml:"nextToken,omitempty"`
	}{found, next}, nil
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
			out.Rules = append(out.Rules, ruleXML(s, id, egress, r))
		}
		return out, nil
	}
}

// revoke answers RevokeSecurityGroupIngress and RevokeSecurityGroupEgress.
func revoke(egress bool) action {
	return func(ctx context.Context, s *Server, st *state.State, p params) (any, error) {
		id, err := groupID(st, p)
		if err != nil {
			return nil, err
		}
		rules, err := rulesByID(st, id, p.list("SecurityGroupRuleId"), egress)
		if err == nil && len(rules) == 0 {
			id, rules, err = readRules(st, p)
		}
		if err != nil {
			return nil, err
		}
		return nil, s.Cloud.Revoke(ctx, id, egress, rules)
	}
}

// rulesByID returns the rules of a group that have the ids.
func rulesByID(st *state.State, group string, ids []string, egress bool) ([]state.Rule, error) {
	g := st.Groups[group]
	if g == nil {
		return nil, fault.NotFound("InvalidGroup", group)
	}
	have := g.Rules
	if egress {
		have = g.Egress
	}
	var out []state.Rule
	for _, id := range ids {
		i := slices.IndexFunc(have, func(r state.Rule) bool { return r.ID == id })
		if i < 0 {
			return nil, fault.NotFound("InvalidSecurityGroupRuleId", id)
		}
		out = append(out, have[i])
	}
	return out, nil
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

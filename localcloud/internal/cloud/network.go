package cloud

import (
	"context"
	"slices"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

// Zones are the availability zones of the region.
func (c *Cloud) Zones() []string { return []string{c.Region + "a", c.Region + "b"} }

// VPC is the id of the one network there is.
func (c *Cloud) VPC() string { return stableID("vpc", c.Account, c.Region) }

// Subnet is the id of the subnet of a zone.
func (c *Cloud) Subnet(zone string) string { return stableID("subnet", c.Account, zone) }

// ZoneOf returns the zone of a subnet, or "".
func (c *Cloud) ZoneOf(subnet string) string {
	for _, z := range c.Zones() {
		if c.Subnet(z) == subnet {
			return z
		}
	}
	return ""
}

func (c *Cloud) defaultGroup() string { return stableID("sg", c.Account, c.Region, "default") }

func (c *Cloud) ensureDefaultGroup(st *state.State) {
	id := c.defaultGroup()
	if st.Groups[id] == nil {
		st.Groups[id] = &state.Group{
			ID: id, Name: "default", Description: "default VPC security group",
			Rules: []state.Rule{{ID: stableID("sgr", id), Protocol: "-1", From: -1, To: -1, SourceGroup: id}}, Egress: []state.Rule{everywhere()},
		}
	}
}

// everywhere is the rule for what may leave that every new group has.
func everywhere() state.Rule {
	return state.Rule{ID: state.NewID("sgr"), Protocol: "-1", From: -1, To: -1, CIDR: "0.0.0.0/0"}
}

// CreateGroup makes a security group that lets nothing in and everything out.
func (c *Cloud) CreateGroup(name, description, vpc string, tags map[string]string) (*state.Group, error) {
	if vpc != "" && vpc != c.VPC() {
		return nil, fault.NotFound("InvalidVpcID", vpc)
	}
	g := &state.Group{ID: state.NewID("sg"), Name: name, Description: description, Egress: []state.Rule{everywhere()}}
	err := c.Store.Update(func(st *state.State) error {
		for _, other := range st.Groups {
			if other.Name == name {
				return fault.New("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, c.VPC())
			}
		}
		st.Groups[g.ID] = g
		return setTags(st, g.ID, tags)
	})
	return g, err
}

// DeleteGroup forgets a security group that no instance uses.
func (c *Cloud) DeleteGroup(id string) error {
	return c.Store.Update(func(st *state.State) error {
		switch {
		case st.Groups[id] == nil:
			return fault.NotFound("InvalidGroup", id)
		case id == c.defaultGroup():
			return fault.New("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
		}
		for _, in := range st.Instances {
			if in.Phase != state.Terminated && slices.Contains(in.Groups(), id) {
				return fault.New("DependencyViolation", "resource %s has a dependent object", id)
			}
		}
		delete(st.Groups, id)
		delete(st.Tags, id)
		return nil
	})
}

// Allow adds rules to a group, for what comes in or for what goes out.
// Guests that run get the ports; what they may reach is settled when they start.
func (c *Cloud) Allow(ctx context.Context, groupID string, egress bool, rules []state.Rule) ([]state.Rule, error) {
	err := c.changeRules(ctx, groupID, egress, func(have []state.Rule) ([]state.Rule, error) {
		for i := range rules {
			r := &rules[i]
			if slices.ContainsFunc(have, r.Same) {
				return nil, fault.New("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists", r.CIDR+r.SourceGroup, r.Protocol, r.From, r.To)
			}
			r.ID = state.NewID("sgr")
			have = append(have, *r)
		}
		return have, nil
	})
	return rules, err
}

// Revoke takes rules out of a group.
func (c *Cloud) Revoke(ctx context.Context, groupID string, egress bool, rules []state.Rule) error {
	return c.changeRules(ctx, groupID, egress, func(have []state.Rule) ([]state.Rule, error) {
		for _, r := range rules {
			i := slices.IndexFunc(have, r.Same)
			if i < 0 {
				return nil, fault.New("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			have = slices.Delete(have, i, i+1)
		}
		return have, nil
	})
}

func (c *Cloud) changeRules(ctx context.Context, groupID string, egress bool, change func([]state.Rule) ([]state.Rule, error)) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	before := c.Store.View()
	err := c.Store.Update(func(st *state.State) error {
		g := st.Groups[groupID]
		if g == nil {
			return fault.NotFound("InvalidGroup", groupID)
		}
		list := &g.Rules
		if egress {
			list = &g.Egress
		}
		changed, err := change(*list)
		if err == nil {
			*list = changed
		}
		return err
	})
	if err != nil || egress {
		return err
	}
	return c.adjustPorts(ctx, before, groupID)
}

// adjustPorts brings the forwarded ports of running guests in line with their groups.
func (c *Cloud) adjustPorts(ctx context.Context, before *state.State, groupID string) error {
	now := c.Store.View()
	for _, in := range now.Instances {
		r := c.runningOf(in.ID)
		if r == nil {
			continue
		}
		for i, n := range in.Interfaces {
			if !slices.Contains(n.Groups, groupID) {
				continue
			}
			if err := changePorts(ctx, r, i, before.OpenPorts(n.Groups), now.OpenPorts(n.Groups)); err != nil {
				return err
			}
		}
	}
	return nil
}

// changePorts opens and closes the ports of one interface.
func changePorts(ctx context.Context, r *instance.Running, index int, had, has []int) error {
	for _, port := range has {
		if slices.Contains(had, port) {
			continue
		}
		if err := r.OpenPort(ctx, index, port); err != nil {
			return err
		}
	}
	for _, port := range had {
		if slices.Contains(has, port) {
			continue
		}
		if err := r.ClosePort(ctx, index, port); err != nil {
			return err
		}
	}
	return nil
}

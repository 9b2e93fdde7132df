package cloud

import (
	"context"
	"fmt"
	"slices"

	"rehost/localcloud/internal/fault"
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
		st.Groups[id] = &state.Group{ID: id, Name: "default", Description: "default VPC security group",
			Rules: []state.Rule{{ID: stableID("sgr", id), Protocol: "-1", From: -1, To: -1, SourceGroup: id}}}
	}
}

// CreateGroup makes a security group without rules.
func (c *Cloud) CreateGroup(name, description, vpc string, tags map[string]string) (*state.Group, error) {
	if vpc != "" && vpc != c.VPC() {
		return nil, fault.NotFound("InvalidVpcID", vpc)
	}
	g := &state.Group{ID: state.NewID("sg"), Name: name, Description: description}
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
			if in.Phase != state.Terminated && slices.Contains(in.Groups, id) {
				return fault.New("DependencyViolation", "resource %s has a dependent object", id)
			}
		}
		delete(st.Groups, id)
		delete(st.Tags, id)
		return nil
	})
}

// OpenIngress adds rules to a group, and forwards the ports to guests that run.
func (c *Cloud) OpenIngress(ctx context.Context, groupID string, rules []state.Rule) ([]state.Rule, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	before := c.Store.View()
	err := c.Store.Update(func(st *state.State) error {
		g := st.Groups[groupID]
		if g == nil {
			return fault.NotFound("InvalidGroup", groupID)
		}
		for i := range rules {
			r := &rules[i]
			for _, old := range g.Rules {
				if r.Protocol == old.Protocol && r.From == old.From && r.To == old.To && r.CIDR == old.CIDR && r.SourceGroup == old.SourceGroup {
					return fault.New("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists", r.CIDR+r.SourceGroup, r.Protocol, r.From, r.To)
				}
			}
			r.ID = state.NewID("sgr")
			g.Rules = append(g.Rules, *r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rules, c.openPorts(ctx, before, groupID)
}

func (c *Cloud) openPorts(ctx context.Context, before *state.State, groupID string) error {
	now := c.Store.View()
	for _, in := range now.Instances {
		r := c.runningOf(in.ID)
		if r == nil || !slices.Contains(in.Groups, groupID) {
			continue
		}
		had := before.OpenPorts(in)
		for _, port := range now.OpenPorts(in) {
			if slices.Contains(had, port) {
				continue
			}
			if err := r.OpenPort(ctx, port); err != nil {
				return fmt.Errorf("open port: %w", err)
			}
		}
	}
	return nil
}

// Package preflight compares a configuration with what the cloud has: it finds wrong ids, instance types that do not fit
// and addresses that lie elsewhere, when they are planned and not when they are launched. It only asks.
package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Cloud is what the checks ask of the cloud.
type Cloud interface {
	InstanceType(ctx context.Context, name string) (cloud.Type, error)
	NetworkOf(ctx context.Context, subnet string) (cloud.Network, error)
	GroupNetwork(ctx context.Context, id string) (string, error)
}

// architecture is the only one that is replicated.
const architecture = "x86_64"

// checker collects what is wrong.
type checker struct {
	wrong    []string
	hint     string // what to do about the first mistake
	unasked  error  // why the cloud could not say
	types    catalog[cloud.Type]
	networks catalog[cloud.Network]
	groups   catalog[string] // their networks
}

// catalog is things of one kind in the cloud. It asks for each once.
type catalog[T any] struct {
	known map[string]*T // nil: the cloud has none of that name
	ask   func(id string) (T, error)
}

func newCatalog[T any](ctx context.Context, ask func(context.Context, string) (T, error)) catalog[T] {
	return catalog[T]{known: map[string]*T{}, ask: func(id string) (T, error) { return ask(ctx, id) }}
}

// Check returns everything that is wrong with a configuration as the cloud sees it, or nil. unasked says why the cloud could
// not be asked about all of it. host returns what is known of a server; before its agent has reported, nothing is.
func Check(ctx context.Context, c Cloud, f protocol.Fleet, host func(server string) protocol.Host) (problem *protocol.Problem, unasked error) {
	k := &checker{types: newCatalog(ctx, c.InstanceType), networks: newCatalog(ctx, c.NetworkOf), groups: newCatalog(ctx, c.GroupNetwork)}
	for _, r := range f.Replications {
		k.kind("replication "+r.Name, "instance_type", r.InstanceType)
		k.subnet("replication "+r.Name, "subnet", r.Subnet)
	}
	for _, l := range f.Launches {
		k.launch(l, f.Servers, host)
	}
	if len(k.wrong) == 0 {
		return nil, k.unasked
	}
	return &protocol.Problem{Code: protocol.ProblemInvalid, Message: "the cloud does not fit the configuration: " + strings.Join(k.wrong, "; "), Hint: k.hint}, nil
}

func (k *checker) launch(l protocol.LaunchSettings, servers []protocol.ServerSettings, host func(string) protocol.Host) {
	where := "launch " + l.Name
	kind := k.kind(where, "instance_type", l.InstanceType)
	k.kind(where, "conversion_instance_type", l.ConversionType)
	cutover := k.subnet(where, "subnet", l.Subnet)
	test := cutover
	if l.TestSubnet != "" {
		test = k.subnet(where, "test_subnet", l.TestSubnet)
	}
	k.securityGroups(where, "security_groups", l.SecurityGroups, cutover)
	if len(l.TestSecurityGroups) > 0 {
		k.securityGroups(where, "test_security_groups", l.TestSecurityGroups, test)
	} else if l.TestSubnet != "" {
		k.securityGroups(where, "security_groups", l.SecurityGroups, test)
	}
	k.interfaces(where, l, kind, cutover, test)
	for _, s := range servers {
		if s.Launch != l.Name {
			continue
		}
		h := host(s.Name)
		k.boots(where, l, kind, s.Name, h)
		if l.PrivateIP == "copy" {
			k.reachable(where, "subnet", cutover, s.Name, h.Address)
			if l.TestSubnet != "" {
				k.reachable(where, "test_subnet", test, s.Name, h.Address)
			}
		}
	}
}

func (k *checker) say(next, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(k.wrong, text) {
		k.wrong = append(k.wrong, text)
	}
	if k.hint == "" {
		k.hint = next
	}
}

// look returns a thing, or nil when the cloud does not know it or does not say.
func look[T any](k *checker, c catalog[T], id string, unknown func()) *T {
	v, asked := c.known[id]
	if !asked && k.unasked == nil {
		found, err := c.ask(id)
		switch {
		case err == nil:
			v, asked = &found, true
		case cloud.Unknown(err):
			asked = true
		default:
			k.unasked = err
			return nil
		}
		c.known[id] = v
	}
	if asked && v == nil {
		unknown()
	}
	return v
}

func (k *checker) kind(where, setting, name string) *cloud.Type {
	if name == "" || name == protocol.InstanceTypeAuto {
		return nil
	}
	t := look(k, k.types, name, func() {
		k.say(fmt.Sprintf("set `%s` to one that the region offers, such as t3.small", setting), "%s: there is no instance type %q in the region", where, name)
	})
	if t != nil && len(t.Architectures) > 0 && !slices.Contains(t.Architectures, architecture) {
		k.say("set `"+setting+"` to one for "+architecture, "%s: instance type %s is for %s, sources are %s", where, name, strings.Join(t.Architectures, ", "), architecture)
	}
	return t
}

func (k *checker) subnet(where, setting, id string) *cloud.Network {
	if id == "" {
		return nil
	}
	return look(k, k.networks, id, func() {
		k.say(fmt.Sprintf("set `%s` to one of the controller's account and region", setting), "%s: there is no subnet %q", where, id)
	})
}

func (k *checker) securityGroups(where, setting string, ids []string, network *cloud.Network) {
	for _, id := range ids {
		vpc := look(k, k.groups, id, func() {
			k.say(fmt.Sprintf("set `%s` to ids of the controller's account and region, such as sg-0123456789abcdef0", setting), "%s: there is no security group %q", where, id)
		})
		if vpc != nil && network != nil && *vpc != network.ID {
			k.say(fmt.Sprintf("set `%s` to groups of %s", setting, network.ID), "%s: security group %s is in %s, the subnet in %s", where, id, *vpc, network.ID)
		}
	}
}

// boots checks that a type of instance boots as the server does.
func (k *checker) boots(where string, l protocol.LaunchSettings, t *cloud.Type, server string, h protocol.Host) {
	mode := l.BootMode
	if mode == "source" || mode == "" {
		mode = h.BootMode
	}
	if t == nil || mode == "" || len(t.BootModes) == 0 || slices.Contains(t.BootModes, mode) {
		return
	}
	k.say("set `instance_type` to one that boots by "+mode+", or to \"auto\"", "%s: instance type %s boots by %s, server %s by %s",
		where, t.Name, strings.Join(t.BootModes, " and "), server, mode)
}

// reachable checks that an address which is to be copied is one of the subnet's.
func (k *checker) reachable(where, setting string, network *cloud.Network, server, address string) {
	if network == nil || address == "" {
		return
	}
	if outside(network.CIDR, address) {
		k.say(fmt.Sprintf("set `%s` to a subnet with that address, or `private_ip` to \"auto\"", setting),
			"%s: the address %s of server %s is to be copied, and its %s has %s", where, address, server, setting, network.CIDR)
	}
}

// outside says that an address is none of a range. What is no address is not outside.
func outside(cidr, address string) bool {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	in, err := netip.ParsePrefix(cidr)
	return err == nil && !in.Contains(at)
}

// Warning says that not all could be checked, for people.
func Warning(err error) string {
	text := "not everything was checked with the cloud: " + err.Error()
	if h := hint.Of(err); h != "" {
		text += " (" + h + ")"
	}
	return text
}

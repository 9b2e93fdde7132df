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
	Offered(ctx context.Context, kind, zone string) (bool, error)
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
	offers   catalog[bool]   // by type and zone, with a blank between them
	warnings []string        // of what may change by itself
}

// catalog is things of one kind in the cloud. It asks for each once.
type catalog[T any] struct {
	known map[string]*T // nil: the cloud has none of that name
	ask   func(id string) (T, error)
}

func newCatalog[T any](ctx context.Context, ask func(context.Context, string) (T, error)) catalog[T] {
	return catalog[T]{known: map[string]*T{}, ask: func(id string) (T, error) { return ask(ctx, id) }}
}

// Known is what is known of a server. Before its agent has reported, nothing is.
type Known struct {
	Host     protocol.Host
	Launched bool // it has its target, or is not to get one any more
}

// Check returns everything that is wrong with a configuration as the cloud sees it, or nil. The warnings say what is short in the
// cloud, and why it could not be asked about all.
func Check(ctx context.Context, c Cloud, f protocol.Fleet, known func(server string) Known) (problem *protocol.Problem, warnings []string) {
	k := &checker{types: newCatalog(ctx, c.InstanceType), networks: newCatalog(ctx, c.NetworkOf), groups: newCatalog(ctx, c.GroupNetwork)}
	k.offers = newCatalog(ctx, func(ctx context.Context, id string) (bool, error) {
		kind, zone, _ := strings.Cut(id, " ")
		return c.Offered(ctx, kind, zone)
	})
	for _, r := range f.Replications {
		where := "replication " + r.Name
		k.offered(where, "instance_type", k.kind(where, "instance_type", r.InstanceType), k.subnet(where, "subnet", r.Subnet))
	}
	for _, l := range f.Launches {
		k.launch(l, f.Servers, known)
	}
	if len(k.wrong) == 0 {
		if k.unasked != nil {
			k.warnings = append(k.warnings, unchecked(k.unasked))
		}
		return nil, k.warnings
	}
	return &protocol.Problem{Code: protocol.ProblemInvalid, Message: "the cloud does not fit the configuration: " + strings.Join(k.wrong, "; "), Hint: k.hint}, k.warnings
}

func (k *checker) launch(l protocol.LaunchSettings, servers []protocol.ServerSettings, known func(string) Known) {
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
	k.offered(where, "instance_type", kind, cutover)
	if l.TestSubnet != "" {
		k.offered(where, "instance_type", kind, test)
	}
	waiting := 0
	for _, s := range servers {
		if s.Launch != l.Name {
			continue
		}
		h := known(s.Name).Host
		if !known(s.Name).Launched {
			waiting++
		}
		k.boots(where, l, kind, s.Name, h)
		if l.PrivateIP == "copy" {
			k.reachable(where, "subnet", cutover, s.Name, h.Address)
			if l.TestSubnet != "" {
				k.reachable(where, "test_subnet", test, s.Name, h.Address)
			}
		}
	}
	k.room(where, l.Subnet, cutover, waiting)
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

// offered checks that a type of instance is in the zone of a subnet, too.
func (k *checker) offered(where, setting string, t *cloud.Type, network *cloud.Network) {
	if t == nil || network == nil || network.Zone == "" {
		return
	}
	if offers := look(k, k.offers, t.Name+" "+network.Zone, func() {}); offers != nil && !*offers {
		k.say(fmt.Sprintf("set `%s` to one that %s has, or choose a subnet in another zone", setting, network.Zone),
			"%s: zone %s of its subnet does not offer instance type %s", where, network.Zone, t.Name)
	}
}

// room warns when a subnet has not as many free addresses as servers are still to be launched there.
func (k *checker) room(where, subnet string, network *cloud.Network, waiting int) {
	if network != nil && network.Free < waiting {
		k.warnings = append(k.warnings, fmt.Sprintf("%s: subnet %s has %d free addresses, and %d servers are still to be launched there; terminate what nobody needs, or take a larger subnet",
			where, subnet, network.Free, waiting))
	}
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

// unchecked says that not all could be checked, for people.
func unchecked(err error) string {
	text := "not everything was checked with the cloud: " + err.Error()
	if h := hint.Of(err); h != "" {
		text += " (" + h + ")"
	}
	return text
}

package cloud

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// InterfaceRequest asks for one network interface of a launch.
type InterfaceRequest struct {
	Index    int64 // 0: the first one
	SubnetID string
	Groups   []string // empty: the default one
	Address  string   // empty: a free one
}

// network is the block that every instance has its addresses of, whatever its zone.
var network = netip.MustParsePrefix("127.77.0.0/16")

// interfaces returns the interfaces of a new instance, the first one first, and marks their addresses as taken.
func (c *Cloud) interfaces(st *state.State, r RunRequest, zone string, taken map[string]bool) ([]state.Interface, error) {
	if t, ok := instanceType(r.Type); ok && len(r.Interfaces) > t.Interfaces {
		return nil, fault.New("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", len(r.Interfaces), r.Type)
	}
	var out []state.Interface
	for i, want := range r.Interfaces {
		if int(want.Index) != i {
			return nil, fault.New("InvalidParameterValue", "The device indexes of the network interfaces must be 0 to %d, each once.", len(r.Interfaces)-1)
		}
		if z := c.ZoneOf(want.SubnetID); want.SubnetID != "" && z == "" {
			return nil, fault.NotFound("InvalidSubnetID", want.SubnetID)
		} else if z != "" && z != zone {
			return nil, fault.New("InvalidParameterCombination", "The network interfaces of an instance must be in one availability zone: subnet %s is in %s and not in %s", want.SubnetID, z, zone)
		}
		groups := want.Groups
		if len(groups) == 0 {
			groups = []string{c.defaultGroup()}
		}
		for _, g := range groups {
			if st.Groups[g] == nil {
				return nil, fault.NotFound("InvalidGroup", g)
			}
		}
		address, err := free(want.Address, taken)
		if err != nil {
			return nil, err
		}
		var mac [4]byte
		_, _ = rand.Read(mac[:]) // never fails
		out = append(out, state.Interface{
			ID: state.NewID("eni"), SubnetID: c.Subnet(zone), Groups: groups, Address: address,
			MAC: fmt.Sprintf("02:77:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3]),
		})
	}
	return out, nil
}

// taken are the addresses that instances have.
func taken(st *state.State) map[string]bool {
	out := map[string]bool{}
	for _, in := range st.Instances {
		for _, n := range in.Interfaces {
			out[n.Address] = out[n.Address] || in.Phase != state.Terminated
		}
	}
	return out
}

// free returns the address that is asked for, or a free one, which is random, so that several local clouds on one machine do
// not meet.
func free(want string, taken map[string]bool) (string, error) {
	for want == "" {
		var b [2]byte
		_, _ = rand.Read(b[:]) // never fails
		if a := netip.AddrFrom4([4]byte{127, 77, b[0], b[1]}); !reserved(a) && !taken[a.String()] {
			want = a.String()
		}
	}
	a, err := netip.ParseAddr(want)
	switch {
	case err != nil || !a.Is4():
		return "", fault.New("InvalidParameterValue", "Value (%s) for parameter privateIpAddress is invalid. It is no IPv4 address.", want)
	case !network.Contains(a):
		return "", fault.New("InvalidParameterValue", "Address %s does not fall within the subnet's address range", want)
	case reserved(a):
		return "", fault.New("InvalidParameterValue", "Address %s is in subnet's reserved address range", want)
	case taken[want]:
		return "", fault.New("InvalidIPAddress.InUse", "Address %s is in use.", want)
	}
	taken[want] = true
	return want, nil
}

// reserved are the first four addresses and the last one, as in each subnet of EC2. Whole blocks at both ends are left alone
// here, for what else on this machine lives there.
func reserved(a netip.Addr) bool {
	b := a.As4()
	return b[2] == 0 || slices.Contains([]byte{0, 255}, b[3])
}

package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"rehost/protocol"
)

// AnswerTarget stands for the target's own address, as the answer of a resolver.
const AnswerTarget = "target"

// askDNS asks one resolver, and nothing else that the controller's machine may know: its own hosts file and search domains are not asked about.
func (t Target) askDNS(ctx context.Context, c protocol.CheckSettings) error {
	resolver := c.Resolver
	if resolver == "" {
		resolver = t.at(53)
	}
	want := c.Answer
	if want == AnswerTarget {
		want = t.Address
	}
	got, err := resolve(ctx, resolver, c.Lookup)
	if err != nil {
		return err
	}
	if len(got) == 0 {
		return fmt.Errorf("%s knows no address of %s", resolver, c.Lookup)
	}
	var texts []string
	for _, a := range got {
		if a.String() == want || want == "" {
			return nil
		}
		texts = append(texts, a.String())
	}
	return fmt.Errorf("%s answers %s for %s, wanted %s", resolver, strings.Join(texts, ", "), c.Lookup, want)
}

// resolve returns a name's addresses, of both kinds.
func resolve(ctx context.Context, resolver, name string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := exchange(ctx, resolver, new(dns.Msg).SetQuestion(dns.Fqdn(name), kind))
		if err != nil {
			return nil, fmt.Errorf("ask %s for %s: %w", resolver, name, err)
		}
		if answer.Rcode != dns.RcodeSuccess {
			return nil, fmt.Errorf("%s answers %s for %s", resolver, dns.RcodeToString[answer.Rcode], name)
		}
		for _, rr := range answer.Answer {
			var a netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				a, _ = netip.AddrFromSlice(rr.A)
			case *dns.AAAA:
				a, _ = netip.AddrFromSlice(rr.AAAA)
			default: // a CNAME on the way
				continue
			}
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

// exchange asks by UDP, and by TCP when the answer is too long for it.
func exchange(ctx context.Context, resolver string, question *dns.Msg) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		answer, _, err := (&dns.Client{Net: network}).ExchangeContext(ctx, question, resolver)
		if err != nil || !answer.Truncated {
			return answer, err
		}
	}
	return nil, errors.New("the answer is cut off")
}

package target

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"rehost/protocol"
)

const maxBody = 1 << 20 // of a page that is searched for a text

// direct asks without a proxy and without connections kept from before: each try is a new one.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Control: notOurOwn}).DialContext}}

// itself is direct, for a check that wants the redirection and not what is behind it.
var itself = &http.Client{Transport: direct.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// notOurOwn refuses the addresses at which a machine learns its own secrets: whoever may write a URL must not read the controller's.
func notOurOwn(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := to.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip == metadataV6 {
		return fmt.Errorf("%s is not asked: metadata of the controller's own machine may be there", ip)
	}
	return nil
}

// metadataV6 is where EC2's metadata service answers in IPv6.
var metadataV6 = netip.MustParseAddr("fd00:ec2::254")

// AskHTTP gets a page once, and wants of it what the check says: its status, headers and a text.
func AskHTTP(ctx context.Context, url string, c protocol.CheckSettings) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make a request for %s: %w", url, err)
	}
	want, client := c.Status, direct
	if want == 0 {
		want = http.StatusOK
	}
	if want/100 == 3 {
		client = itself
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s answers %s, wanted %d", url, resp.Status, want)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if got := strings.Join(resp.Header.Values(name), ", "); !strings.Contains(got, c.Headers[name]) || len(resp.Header.Values(name)) == 0 {
			return fmt.Errorf("%s answers with the header %s %q, wanted %q in it", url, name, got, c.Headers[name])
		}
	}
	if !strings.Contains(string(body), c.Contains) {
		return fmt.Errorf("%s answers a page without %q", url, c.Contains)
	}
	return nil
}

package machine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	endpoint     = "http://169.254.169.254"
	metadataWait = time.Minute
	maxUserData  = 16 << 10 // EC2's own limit
)

// linkLocal is the address that the machine gives itself: the metadata service is on the same link.
var linkLocal = netip.MustParsePrefix("169.254.77.15/16")

// fetchOrder brings up the network card and asks the metadata service until it answers.
func fetchOrder(ctx context.Context, say func(string)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataWait)
	defer cancel()
	card, err := waitCard(ctx)
	if err != nil {
		return nil, err
	}
	if err := bringUp(card, linkLocal); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", card, err)
	}
	if err := waitLink(ctx, card); err != nil {
		return nil, err
	}
	say("network card " + card + " is up")
	return userData(ctx)
}

// waitCard returns the first network card.
func waitCard(ctx context.Context) (string, error) {
	for {
		entries, err := os.ReadDir("/sys/class/net")
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if e.Name() != "lo" {
				return e.Name(), nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for a network card: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
}

// waitLink waits until a card has a link: what is sent before is lost.
func waitLink(ctx context.Context, card string) error {
	for {
		if state, err := os.ReadFile("/sys/class/net/" + card + "/carrier"); err == nil && len(state) > 0 && state[0] == '1' {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a link on %s: %w", card, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// bringUp gives a card an address and switches it on.
func bringUp(card string, prefix netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq(card)
	if err != nil {
		return err
	}
	set := func(req uint, a []byte) error {
		if err := ifr.SetInet4Addr(a); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, req, ifr)
	}
	if err := set(unix.SIOCSIFADDR, prefix.Addr().AsSlice()); err != nil {
		return fmt.Errorf("set the address: %w", err)
	}
	if err := set(unix.SIOCSIFNETMASK, net.CIDRMask(prefix.Bits(), 32)); err != nil {
		return fmt.Errorf("set the netmask: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// userData reads the user data with a session token (IMDSv2). The link may need a
// moment to come up, so short attempts follow each other until ctx ends.
func userData(ctx context.Context) ([]byte, error) {
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 400 * time.Millisecond}).DialContext,
		},
	}
	defer client.CloseIdleConnections()
	for {
		data, err := readUserData(ctx, client)
		if err == nil {
			return data, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(poll):
		}
	}
}

func readUserData(ctx context.Context, client *http.Client) ([]byte, error) {
	token, err := call(ctx, client, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "300")
	if err != nil {
		return nil, err
	}
	return call(ctx, client, http.MethodGet, "/latest/user-data", "X-aws-ec2-metadata-token", strings.TrimSpace(string(token)))
}

func call(ctx context.Context, client *http.Client, method, path, header, value string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, endpoint+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(header, value)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxUserData+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return body, nil
}

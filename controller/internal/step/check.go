package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rehost/controller/internal/await"
	"rehost/protocol"
)

const (
	defaultCheckTimeout = 5 * time.Minute
	oneTry              = 10 * time.Second
	maxBody             = 1 << 20
)

// check asks the target what the server's check blocks ask, each until its deadline.
func check(ctx context.Context, w *Work) error {
	settings, _, err := w.settings()
	if err != nil {
		return err
	}
	if w.data(dataStopped) != "" {
		return &skip{"the target is stopped, as its launch block wants it"}
	}
	if len(settings.Checks) == 0 {
		return &skip{"no checks are configured"}
	}
	byName := map[string]protocol.CheckSettings{}
	for _, c := range w.store.Applied().Checks {
		byName[c.Name] = c
	}
	for _, name := range settings.Checks {
		c, ok := byName[name]
		if !ok {
			return &final{fmt.Errorf("no check %q in the applied configuration", name)}
		}
		w.progress(ctx)("check " + name)
		if err := w.runCheck(ctx, c); err != nil {
			return err
		}
	}
	w.progress(ctx)("passed: " + strings.Join(settings.Checks, ", "))
	return nil
}

// runCheck repeats one check until it passes or its time is over; then the last answer is the problem.
func (w *Work) runCheck(ctx context.Context, c protocol.CheckSettings) error {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = defaultCheckTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := errors.New("no answer yet")
	err := await.Until(limited, max(w.cfg.Poll, 200*time.Millisecond), func() (bool, error) {
		try, cancel := context.WithTimeout(limited, oneTry)
		defer cancel()
		if err := w.ask(try, c); err != nil {
			if limited.Err() == nil { // otherwise it was our own deadline that cut it off
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err == nil {
		return nil
	}
	return &protocol.Problem{
		Code:    protocol.ProblemCheck,
		Message: fmt.Sprintf("check %s of %s did not pass within %s: %v", c.Name, w.data(protocol.JobDataInstance), timeout, last),
		Hint:    "look at the instance's console in the cloud; it is kept after a failed test",
	}
}

func (w *Work) ask(ctx context.Context, c protocol.CheckSettings) error {
	address := net.JoinHostPort(w.data(protocol.JobDataAddress), strconv.Itoa(c.Port))
	switch c.Kind {
	case "tcp":
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	case "http":
		return askHTTP(ctx, "http://"+address+"/"+strings.TrimPrefix(c.Path, "/"), c)
	case "console":
		text, err := w.cloud.ConsoleOutput(ctx, w.data(protocol.JobDataInstance))
		if err != nil {
			return err
		}
		if !strings.Contains(text, c.Contains) {
			return fmt.Errorf("the console does not contain %q; it ends with:\n%s", c.Contains, tail(text, consoleLines))
		}
		return nil
	}
	return fmt.Errorf("unknown kind of check %q", c.Kind)
}

// direct asks targets without a proxy and without connections kept from before: each try is a new one.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Control: notOurOwn}).DialContext}}

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

func askHTTP(ctx context.Context, url string, c protocol.CheckSettings) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make a request for %s: %w", url, err)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	want := c.Status
	if want == 0 {
		want = http.StatusOK
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s answers %s, wanted %d", url, resp.Status, want)
	}
	if !strings.Contains(string(body), c.Contains) {
		return fmt.Errorf("%s answers a page without %q", url, c.Contains)
	}
	return nil
}

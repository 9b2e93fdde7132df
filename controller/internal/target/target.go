// Package target looks at launched instances from outside, as a check block wants it, and runs commands on them by SSH. Each question is asked once:
// how often, for how long and what follows from the answer is decided elsewhere.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"rehost/protocol"
)

// Cloud is what the cloud knows of an instance.
type Cloud interface {
	ConsoleOutput(ctx context.Context, id string) (string, error)
	StatusChecks(ctx context.Context, id string) (system, instance string, err error)
}

// Target is a launched instance.
type Target struct {
	Instance string // id
	Address  string
	Cloud    Cloud
	Dial     func(ctx context.Context) (*Shell, error)
}

// Lasting is an error that another try would meet again.
type Lasting struct{ Err error }

func (l *Lasting) Error() string { return l.Err.Error() }

// Unwrap returns what lasts.
func (l *Lasting) Unwrap() error { return l.Err }

// Lasts says that another try would meet the error again.
func Lasts(err error) bool {
	_, ok := errors.AsType[*Lasting](err)
	return ok
}

// Ask puts the question of a check once. An error says what was seen instead of what is wanted.
func (t Target) Ask(ctx context.Context, c protocol.CheckSettings) error {
	switch c.Kind {
	case protocol.CheckTCP:
		return t.askTCP(ctx, c)
	case protocol.CheckHTTP:
		return AskHTTP(ctx, "http://"+t.at(c.Port)+"/"+strings.TrimPrefix(c.Path, "/"), c)
	case protocol.CheckConsole:
		return t.askConsole(ctx, c)
	case protocol.CheckInstance:
		return t.askInstance(ctx)
	case protocol.CheckDNS:
		return t.askDNS(ctx, c)
	case protocol.CheckSSH:
		return t.askSSH(ctx, c)
	case protocol.CheckUnit:
		return t.askUnit(ctx, c)
	case protocol.CheckProcess:
		return t.askProcess(ctx, c)
	case protocol.CheckMounts:
		return t.askMounts(ctx, c)
	}
	return &Lasting{fmt.Errorf("unknown kind of check %q", c.Kind)}
}

func (t Target) at(port int) string { return net.JoinHostPort(t.Address, strconv.Itoa(port)) }

func (t Target) askTCP(ctx context.Context, c protocol.CheckSettings) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.at(c.Port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// askInstance wants both of the cloud's own checks: that of the host, and whether the instance answers on its network.
func (t Target) askInstance(ctx context.Context) error {
	system, instance, err := t.Cloud.StatusChecks(ctx, t.Instance)
	if err != nil {
		return err
	}
	if system != "ok" || instance != "ok" {
		return fmt.Errorf("the cloud's checks say: system %s, instance %s", system, instance)
	}
	return nil
}

package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"rehost/internal/hint"
	"rehost/internal/jsonfile"
	"rehost/protocol"
)

// While enrolling, a controller that restarts is waited for.
const (
	enrolPatience = 20 * time.Second
	enrolTry      = 2 * time.Second
	enrolRetry    = 300 * time.Millisecond
)

// dialTimeout bounds the first connection: an operator is told within this time that nothing answers.
const dialTimeout = 4 * time.Second

// Identity is who a client is on the bus. Seed is secret.
type Identity struct {
	Role string `json:"role"`
	Name string `json:"name"`
	JWT  string `json:"jwt"`
	Seed string `json:"seed"`
}

// Context is all that a client needs: where the bus is and who the client is.
type Context struct {
	Bus      protocol.Bus `json:"bus"`
	Identity Identity     `json:"identity"`
}

// SaveIdentity writes an identity to path, whole or not at all, mode 0600.
func SaveIdentity(path string, id Identity) error { return jsonfile.Write(path, id) }

// LoadIdentity reads what SaveIdentity wrote. A missing file wraps fs.ErrNotExist.
func LoadIdentity(path string) (Identity, error) {
	var id Identity
	return id, jsonfile.Read(path, &id)
}

// SaveContext writes a context to path, whole or not at all, mode 0600.
func SaveContext(path string, c Context) error { return jsonfile.Write(path, c) }

// LoadContext reads what SaveContext wrote. A missing file wraps fs.ErrNotExist.
func LoadContext(path string) (Context, error) {
	var c Context
	return c, jsonfile.Read(path, &c)
}

// Connect dials the bus. The first connection must succeed within a few seconds; after that the
// client reconnects for ever, and requests fail by their own deadlines meanwhile.
func Connect(ctx context.Context, c Context, log hclog.Logger, opts ...nats.Option) (*nats.Conn, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.Bus.CA)) {
		return nil, hint.New("connect to the bus: no certificate authority given", "copy the controller's ca.pem and name it in the configuration")
	}
	if len(c.Bus.Servers) == 0 {
		return nil, hint.New("connect to the bus: no address given", "name at least one in bus.servers")
	}
	all := append([]nats.Option{
		nats.Name(c.Identity.Role + "/" + c.Identity.Name),
		nats.UserJWTAndSeed(c.Identity.JWT, c.Identity.Seed),
		nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}),
		nats.CustomInboxPrefix(protocol.InboxPrefix(c.Identity.Role, c.Identity.Name)),
		nats.Timeout(dialTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, time.Second),
		// What is published while disconnected would arrive after newer things: better an error now.
		nats.ReconnectBufSize(-1),
		// A broker that was wiped may refuse us for a while; an agent must outlast that.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
	}, logOptions(log)...)
	url := strings.Join(c.Bus.Servers, ",")
	nc, err := dial(ctx, url, append(all, opts...))
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("connect to the bus at %s: %w", url, err), connectHint(err))
	}
	return nc, nil
}

// dial connects, and gives up when ctx ends first.
func dial(ctx context.Context, url string, opts []nats.Option) (*nats.Conn, error) {
	type outcome struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan outcome, 1)
	go func() { // ends within dialTimeout for each address
		nc, err := nats.Connect(url, opts...)
		done <- outcome{nc, err}
	}()
	select {
	case o := <-done:
		return o.nc, o.err
	case <-ctx.Done():
		go func() { // a connection that came too late is closed
			if o := <-done; o.nc != nil {
				o.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func connectHint(err error) string {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
		return "this identity is not known there: enrol again with a new token (rehost server token NAME)"
	}
	return "check that the controller runs and that the address and port are reachable from here"
}

func logOptions(log hclog.Logger) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("bus reconnected", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("bus error", "error", err) }),
	}
}

// Enrol changes a one-time token into an identity: it makes a key here, and asks the controller
// to sign its public half.
func Enrol(ctx context.Context, b protocol.Bus, tokenText, role, name string) (Identity, error) {
	t, err := DecodeToken(tokenText)
	if err != nil {
		return Identity{}, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return Identity{}, fmt.Errorf("make a key: %w", err)
	}
	pub, err := pair.PublicKey()
	if err != nil {
		return Identity{}, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return Identity{}, err
	}
	nc, err := Connect(ctx, Context{Bus: b, Identity: Identity{Role: RoleEnrol, Name: name, JWT: t.JWT, Seed: t.Seed}}, hclog.NewNullLogger())
	if err != nil {
		return Identity{}, err
	}
	defer nc.Close()
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	req := protocol.EnrolRequest{Role: role, Name: name, Token: t.JWT, PublicKey: pub, Hostname: hostname}
	reply, err := requestEnrolment(ctx, nc, req)
	if err != nil {
		return Identity{}, fmt.Errorf("enrol %s/%s: %w", role, name, err)
	}
	return Identity{Role: role, Name: name, JWT: reply.JWT, Seed: string(seed)}, nil
}

// requestEnrolment asks until there is an answer. The token may be burnt by a controller that died before
// it answered; it is good again for the same key only, so the same request is repeated.
func requestEnrolment(ctx context.Context, nc *nats.Conn, req protocol.EnrolRequest) (protocol.EnrolReply, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolPatience)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, enrolTry)
		reply, err := Request[protocol.EnrolRequest, protocol.EnrolReply](try, nc, protocol.EnrolSubject, req)
		done()
		if _, answered := errors.AsType[*protocol.Problem](err); err == nil || answered {
			return reply, err
		}
		if denied := nc.LastError(); errors.Is(denied, nats.ErrPermissionViolation) {
			return reply, hint.Wrap(denied, "use the token for the role and name that it was made for")
		}
		select {
		case <-ctx.Done():
			return reply, err
		case <-time.After(enrolRetry):
		}
	}
}

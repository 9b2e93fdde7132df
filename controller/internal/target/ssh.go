package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// maxOutput bounds what is kept of what a command says: its end.
	maxOutput = 4 << 20
	// goodbye is how long a host has to take the order to kill a command that is cut off.
	goodbye = time.Second
)

// Login says how to get a shell on an instance.
type Login struct {
	Address string // and port
	User    string
	KeyFile string // private key, a file of this machine
	HostKey string // that the host must have, as in an authorized_keys file; empty: any one
}

// Shell runs commands on an instance. Close it.
type Shell struct {
	client *ssh.Client
	conn   net.Conn
	key    string
}

// Result is how a command ended.
type Result struct {
	Code   int    // exit code; 128 and more when a signal ended it
	Output string // what it said, to both of its outputs
}

// Dial logs in. What lasts ([Lasts]): a key file that cannot be used, and a host key that is another one.
func Dial(ctx context.Context, l Login) (*Shell, error) {
	text, err := os.ReadFile(l.KeyFile)
	if err != nil {
		return nil, &Lasting{hint.Wrap(fmt.Errorf("read the SSH key: %w", err), "key_file of the launch block's ssh names a file of the controller's machine, which the controller can read")}
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, &Lasting{hint.Wrap(fmt.Errorf("read the SSH key %s: %w", l.KeyFile, err), "it must be a private key without a passphrase")}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // who reads or writes hears of it
	s := &Shell{conn: conn}
	c, channels, requests, err := ssh.NewClientConn(conn, l.Address, &ssh.ClientConfig{
		User: l.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { return s.meet(key, l) },
	})
	if !stop() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		conn.Close() //nolint:errcheck // nothing was sent
		return nil, fmt.Errorf("log in to %s as %s: %w", l.Address, l.User, err)
	}
	s.client = ssh.NewClient(c, channels, requests)
	return s, nil
}

func (s *Shell) meet(key ssh.PublicKey, l Login) error {
	s.key = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if l.HostKey != "" && l.HostKey != s.key {
		return &Lasting{fmt.Errorf("%s has the host key %s, and had another one before", l.Address, ssh.FingerprintSHA256(key))}
	}
	return nil
}

// HostKey is the key that the host has shown.
func (s *Shell) HostKey() string { return s.key }

// Close ends the connection.
func (s *Shell) Close() error { return s.client.Close() }

// Run runs a command by the user's shell, with input if there is any. When ctx ends first the command is killed, as far as the host can
// do that, the connection is closed, and the result has what was said until then. An error means that how the command ended is not known.
func (s *Shell) Run(ctx context.Context, command string, input []byte) (Result, error) {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() }) //nolint:errcheck // who waits for the session hears of it
	session, err := s.client.NewSession()
	if !stop() || err != nil {
		return Result{}, fmt.Errorf("open a session: %w", errors.Join(context.Cause(ctx), err))
	}
	defer session.Close() //nolint:errcheck // it has ended
	said := newEnd()
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), said, said
	stop = context.AfterFunc(ctx, func() {
		_ = s.conn.SetWriteDeadline(time.Now().Add(goodbye)) // a closed one takes none, and needs none
		_ = session.Signal(ssh.SIGKILL)                      // as good as it can
		s.client.Close()                                     //nolint:errcheck // the session hears of it
	})
	defer stop()
	err = session.Run(command)
	result := Result{Output: said.String()}
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		result.Code, err = exit.ExitStatus(), nil
	}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	if err != nil {
		return result, fmt.Errorf("the connection was lost while a command ran: %w", err)
	}
	return result, nil
}

// end keeps the end of both outputs of a command, which come at once.
type end struct {
	mu   sync.Mutex
	tail command.Tail
}

func newEnd() *end { return &end{tail: command.Tail{Max: maxOutput}} }

func (e *end) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tail.Write(p)
}

func (e *end) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.tail.Bytes())
}

// Quote makes a command line of a program and its arguments, that a shell takes as they are.
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// run logs in for one command.
func (t Target) run(ctx context.Context, command string) (Result, error) {
	shell, err := t.Dial(ctx)
	if err != nil {
		return Result{}, err
	}
	defer shell.Close() //nolint:errcheck // the command has ended
	return shell.Run(ctx, command, nil)
}

// askSSH wants an exit code, and a text in what a command says.
func (t Target) askSSH(ctx context.Context, c protocol.CheckSettings) error {
	r, err := t.run(ctx, Quote(c.Command))
	if err != nil {
		return err
	}
	if r.Code != c.ExitCode {
		return fmt.Errorf("%s ends with exit code %d, wanted %d; it says:\n%s", c.Command[0], r.Code, c.ExitCode, Tail(r.Output, consoleLines))
	}
	if !strings.Contains(r.Output, c.Contains) {
		return fmt.Errorf("%s does not say %q; it says:\n%s", c.Command[0], c.Contains, Tail(r.Output, consoleLines))
	}
	return nil
}

// Package targettest is an SSH server for tests, which runs what it is told on this machine.
package targettest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Server listens on a loopback address until the test ends.
type Server struct {
	Port    int
	KeyFile string // of the only key that it lets in, for any user
	config  *ssh.ServerConfig

	mu    sync.Mutex // guards the fields beneath
	ran   []string
	conns []net.Conn
}

// Start starts a server on 127.0.0.1.
func Start(tb testing.TB) *Server {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(tb, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(tb, err)
	s := &Server{KeyFile: filepath.Join(tb.TempDir(), "key")}
	must(tb, os.WriteFile(s.KeyFile, pem.EncodeToMemory(block), 0o600))
	allowed, err := ssh.NewPublicKey(public)
	must(tb, err)
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(allowed.Marshal()) {
			return nil, os.ErrPermission
		}
		return nil, nil
	}}
	_, host, err := ed25519.GenerateKey(rand.Reader)
	must(tb, err)
	signer, err := ssh.NewSignerFromSigner(host)
	must(tb, err)
	s.config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	s.Port = l.Addr().(*net.TCPAddr).Port
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			all.Go(func() { s.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		s.Cut()
		all.Wait()
	})
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// Address is where it listens.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Cut ends all connections.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// Ran are the commands that it was told to run.
func (s *Server) Ran() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ran...)
}

func (s *Server) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // of a test
	c, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var all sync.WaitGroup
	defer all.Wait()
	for n := range channels {
		channel, requests, err := n.Accept()
		if err != nil {
			return
		}
		all.Go(func() { s.session(channel, requests) })
	}
	_ = c.Wait()
}

// session runs one command. It kills it when it is told to, or when the connection ends.
func (s *Server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close() //nolint:errcheck // of a test
	var cmd *exec.Cmd
	kill := func() {
		if cmd != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group, which this test made
		}
	}
	for r := range requests {
		switch r.Type {
		case "exec":
			var payload struct{ Command string }
			_ = ssh.Unmarshal(r.Payload, &payload)
			s.mu.Lock()
			s.ran = append(s.ran, payload.Command)
			s.mu.Unlock()
			cmd = exec.Command("sh", "-c", payload.Command)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			input, _ := cmd.StdinPipe()
			_ = r.Reply(cmd.Start() == nil, nil)
			go func() { _, _ = io.Copy(input, channel); _ = input.Close() }()
			go func() {
				_ = cmd.Wait()
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(cmd.ProcessState.ExitCode() & 0xff)}))
				_ = channel.Close()
			}()
		case "signal":
			kill()
		default:
			_ = r.Reply(false, nil)
		}
	}
	kill()
}

package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Settings of the embedded server.
const (
	maxPayload    = 4 << 20          // a frame is at most about 1.2 MiB
	maxPending    = 128 << 20        // a replication server may lag by a window before the server cuts it off
	writeDeadline = 30 * time.Second // slow links are normal
	startTimeout  = 20 * time.Second // recovery of a large store takes seconds
	// maxStore bounds the sum of all streams' limits, which are reserved when the streams are made: a stream of 1 GiB for each
	// of 10,000 servers, and some of 1 TiB. What they hold is bounded by the agents' windows.
	maxStore  = int64(1) << 50
	maxMemory = int64(256) << 20 // of memory streams; none are declared
)

// ServerConfig says where the embedded server listens and keeps its data.
type ServerConfig struct {
	Dir     string   // JetStream's store, keys and certificates; made when missing, mode 0700
	Address string   // host:port; port 0 takes a free one
	Hosts   []string // further host names and addresses under which clients reach it
	Logger  hclog.Logger
	// Unsynced leaves it to the caller to make what is written durable, after Close: for filling a store that counts only when it is whole.
	Unsynced bool
}

// Server is a running embedded NATS server.
type Server struct {
	ns        *natsserver.Server
	authority *Authority
	bus       protocol.Bus
	revoking  sync.Mutex // one change of the account at a time
}

// Listen starts the embedded server and returns when it answers. The server runs until Close.
// A port in use, or a store in use by another process, is an error with a hint.
func Listen(ctx context.Context, cfg ServerConfig) (*Server, error) {
	host, port, err := splitAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	if err := probePort(ctx, cfg.Address, port); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the bus folder: %w", err)
	}
	authority, err := openAuthority(filepath.Join(cfg.Dir, authorityName))
	if err != nil {
		return nil, err
	}
	cert, caPEM, err := openCertificate(cfg.Dir, append([]string{host}, cfg.Hosts...))
	if err != nil {
		return nil, err
	}
	opts, err := options(cfg, host, port, authority, cert)
	if err != nil {
		return nil, err
	}
	ns, err := natsserver.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configure the bus: %w", err)
	}
	if cfg.Logger != nil {
		ns.SetLogger(&serverLog{cfg.Logger.Named("nats")}, cfg.Logger.IsTrace(), false)
	}
	go ns.Start() // ends with Shutdown
	if !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		return nil, hint.Wrap(fmt.Errorf("start the bus on %s: not ready after %s", cfg.Address, startTimeout),
			"look for another process that uses "+cfg.Dir)
	}
	bound := ns.Addr().(*net.TCPAddr)
	url := "tls://" + net.JoinHostPort(dialHost(host), strconv.Itoa(bound.Port))
	return &Server{ns: ns, authority: authority, bus: protocol.Bus{Servers: []string{url}, CA: caPEM}}, nil
}

// Bus says how to reach the server.
func (s *Server) Bus() protocol.Bus { return s.bus }

// Authority returns the keys that sign identities for this server.
func (s *Server) Authority() *Authority { return s.authority }

// Close stops the server and waits until its store is closed.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

func options(cfg ServerConfig, host string, port int, a *Authority, cert tls.Certificate) (*natsserver.Options, error) {
	if port == 0 {
		port = natsserver.RANDOM_PORT
	}
	opts := &natsserver.Options{
		ServerName: "rehost", Host: host, Port: port,
		NoSigs: true, NoLog: cfg.Logger == nil,
		MaxPayload: maxPayload, MaxPending: maxPending, WriteDeadline: writeDeadline,
		JetStream: true, StoreDir: filepath.Join(cfg.Dir, "jetstream"),
		JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
		SyncAlways: !cfg.Unsynced,
		TLS:        true, TLSTimeout: 5, // seconds; the default of 2 is short for a busy host
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		// What is authenticated may be slow; what is not may not wait for ever.
		AuthTimeout: 6,
	}
	if err := a.configure(opts); err != nil {
		return nil, err
	}
	return opts, nil
}

func splitAddress(address string) (string, int, error) {
	host, portText, err := net.SplitHostPort(address)
	if err == nil {
		port, errPort := strconv.Atoi(portText)
		if errPort == nil && port >= 0 && port < 1<<16 {
			return host, port, nil
		}
		err = fmt.Errorf("port %q", portText)
	}
	return "", 0, hint.Wrap(fmt.Errorf("bus address %q: %w", address, err), `write it as host:port, such as "127.0.0.1:4222"`)
}

// dialHost is the host that clients on this machine use for a wildcard address.
func dialHost(host string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// probePort gives a port in use its own error: the server itself would only log it.
func probePort(ctx context.Context, address string, port int) error {
	if port == 0 {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return hint.Wrap(fmt.Errorf("start the bus: %s is in use", address),
			"stop what listens there (ss -ltnp shows it), or choose another address")
	}
	if err != nil {
		return fmt.Errorf("start the bus on %s: %w", address, err)
	}
	return l.Close()
}

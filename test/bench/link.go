package main

import (
	"context"
	"strconv"

	"rehost/internal/command"
)

// Addresses of a shaped link; they exist in our namespaces only.
const (
	stagingAddress = "10.77.0.1"
	sourceAddress  = "10.77.0.2"
)

// link is how the source reaches the staging side.
type link struct {
	staging, source string   // addresses
	prefix          []string // of programs that run on the source
}

// loopback is the link within one host.
func loopback() *link { return &link{staging: "127.0.0.1", source: "127.0.0.1"} }

// shaped makes a link of 1 Gbit/s, in both directions, to a network namespace that ends with env.
func shaped(ctx context.Context, e *env) (*link, error) {
	holder, err := start("network namespace", e.work+"/netns.log", nil, nil, nil, "unshare", "--net", "sleep", "infinity")
	if err != nil {
		return nil, err
	}
	e.later(holder.stop)
	pid := strconv.Itoa(holder.cmd.Process.Pid)
	l := &link{staging: stagingAddress, source: sourceAddress, prefix: []string{"nsenter", "--target", pid, "--net"}}
	// unshare(1) has not left our namespace until its lo is down and alone.
	if err := eventually(ctx, "network namespace", func() bool { return !sameNamespace(pid) }); err != nil {
		return nil, err
	}
	const shape = "root tbf rate 1gbit burst 512kb latency 50ms"
	for _, words := range [][]string{
		{"ip", "link", "add", "staging", "type", "veth", "peer", "name", "source", "netns", pid},
		{"ip", "addr", "add", stagingAddress + "/24", "dev", "staging"},
		{"ip", "link", "set", "staging", "up"},
		append([]string{"tc", "qdisc", "add", "dev", "staging"}, fields(shape)...),
		l.onSource("ip", "addr", "add", sourceAddress+"/24", "dev", "source"),
		l.onSource("ip", "link", "set", "source", "up"),
		l.onSource("ip", "link", "set", "lo", "up"),
		l.onSource(append([]string{"tc", "qdisc", "add", "dev", "source"}, fields(shape)...)...),
	} {
		if _, err := command.Run(ctx, words[0], words[1:]...); err != nil {
			return nil, err
		}
	}
	e.later(func() error {
		_, err := command.Run(context.WithoutCancel(ctx), "ip", "link", "del", "staging")
		return err
	})
	return l, nil
}

// onSource returns the words that run a program on the source.
func (l *link) onSource(argv ...string) []string {
	return append(append([]string{}, l.prefix...), argv...)
}

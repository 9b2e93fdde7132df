package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rehost/internal/command"
)

const peerPort = "10809"

// nbdcopy reads the disk from an NBD server on the source, over TLS, with its defaults: four connections, zeros found
// and not written.
func nbdcopy(ctx context.Context, e *env, l *link, d *disk, target string) (took time.Duration, err error) {
	keys := e.work + "/psk"
	if err := os.WriteFile(keys, []byte("rehost:2f1b8c0e6d5a49378261504f3e2d1c0b9a8f7e6d5c4b3a29181706f5e4d3c2b1\n"), 0o600); err != nil {
		return 0, err
	}
	server, err := start("nbdkit", e.work+"/nbdkit.log", nil, nil, nil, l.onSource("nbdkit", "--foreground", "--readonly", "--exit-with-parent",
		"--tls=require", "--tls-psk="+keys, "--ipaddr", l.source, "--port", peerPort, "file", d.path)...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.stop(), os.RemoveAll(target)) }()
	if err := listens(ctx, l.source+":"+peerPort); err != nil {
		return 0, errors.Join(err, server.alive())
	}
	began := time.Now()
	_, err = command.Run(ctx, "nbdcopy", "--flush", "--destination-is-zero",
		fmt.Sprintf("nbds://rehost@%s:%s/?tls-psk-file=%s", l.source, peerPort, keys), target)
	return time.Since(began), err
}

// ddPipe is what people type: dd | lz4 | TLS | lz4 -d | dd conv=fdatasync.
func ddPipe(ctx context.Context, e *env, l *link, d *disk, target string) (took time.Duration, err error) {
	key, cert := e.work+"/key.pem", e.work+"/cert.pem"
	if _, err := command.Run(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN="+l.staging); err != nil {
		return 0, err
	}
	var all pipeline
	defer func() { err = errors.Join(err, all.stop(), os.RemoveAll(target)) }()
	began := time.Now()
	if err := all.start(e,
		[]string{"socat", "-u", "-b", "65536", fmt.Sprintf("OPENSSL-LISTEN:%s,bind=%s,reuseaddr,cert=%s,key=%s,verify=0", peerPort, l.staging, cert, key), "STDOUT"},
		[]string{"lz4", "-d", "-c"},
		[]string{"dd", "of=" + target, "bs=1M", "iflag=fullblock", "conv=fdatasync"},
	); err != nil {
		return 0, err
	}
	if err := all.start(e,
		l.onSource("dd", "if="+d.path, "bs=1M"),
		l.onSource("lz4", "-1", "-c"),
		l.onSource("socat", "-u", "-b", "65536", "STDIN", fmt.Sprintf("OPENSSL:%s:%s,cafile=%s,retry=100,interval=0.05", l.staging, peerPort, cert)),
	); err != nil {
		return 0, err
	}
	if err := all.wait(ctx); err != nil {
		return 0, err
	}
	took = time.Since(began)
	info, err := os.Stat(target)
	if err == nil && info.Size() != d.size {
		err = fmt.Errorf("the copy has %d bytes, want %d", info.Size(), d.size)
	}
	return took, err
}

// pipeline is programs that read from each other.
type pipeline struct{ all []*process }

// start starts programs, each reading what the one before writes.
func (p *pipeline) start(e *env, programs ...[]string) error {
	var stdin *os.File
	for i, argv := range programs {
		var read, write *os.File
		if i < len(programs)-1 {
			var err error
			if read, write, err = os.Pipe(); err != nil {
				return err
			}
		}
		var in io.Reader
		var out io.Writer
		if stdin != nil {
			in = stdin
		}
		if write != nil {
			out = write
		}
		one, err := start(argv[0], fmt.Sprintf("%s/pipe-%d.log", e.work, len(p.all)), in, out, nil, argv...)
		for _, f := range []*os.File{stdin, write} {
			if f != nil {
				_ = f.Close() // the child has its own
			}
		}
		if err != nil {
			return err
		}
		p.all = append(p.all, one)
		stdin = read
	}
	return nil
}

// wait waits for the end of all.
func (p *pipeline) wait(ctx context.Context) error {
	for _, one := range p.all {
		select {
		case <-one.ended:
			if one.err != nil {
				return one.alive()
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *pipeline) stop() error {
	var errs []error
	for _, one := range p.all {
		errs = append(errs, one.stop())
	}
	return errors.Join(errs...)
}

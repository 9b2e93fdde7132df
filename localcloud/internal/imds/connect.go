package imds

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Connect joins a program's standard input and output to address (host:port, or
// unix:PATH) until both directions have ended. QEMU runs it for each connection
// that a guest makes to the metadata address.
func Connect(address string, in io.Reader, out io.Writer) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		return fmt.Errorf("connect to metadata service: %w", err)
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.Copy(conn, in)
		// The guest sent all; what the service still has to say comes through.
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("copy from metadata service: %w", err)
	}
	return nil
}

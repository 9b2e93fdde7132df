package step

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"rehost/controller/internal/target"
	"rehost/protocol"
)

// dial gets a shell on the launched instance. The host key that its first login shows is the one that it must show for the rest of the job.
func (w *Work) dial(ctx context.Context) (*target.Shell, error) {
	_, launch, err := w.settings()
	if err != nil {
		return nil, err
	}
	if launch.SSH == nil {
		return nil, &target.Lasting{Err: fmt.Errorf("launch %s has no ssh block", launch.Name)}
	}
	shell, err := target.Dial(ctx, target.Login{
		Address: net.JoinHostPort(w.data(protocol.JobDataAddress), strconv.Itoa(launch.SSH.Port)), User: launch.SSH.User, KeyFile: launch.SSH.KeyFile, HostKey: w.data(dataHostKey),
	})
	if err != nil || w.data(dataHostKey) != "" {
		return shell, err
	}
	if err := w.set(ctx, dataHostKey, shell.HostKey()); err != nil {
		shell.Close() //nolint:errcheck // nothing was asked of it
		return nil, err
	}
	return shell, nil
}

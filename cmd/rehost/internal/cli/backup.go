package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/backup"
	"rehost/protocol"
)

// cutWithin bounds how long the controller may take for a cut; the audit log is at most 1 GiB.
const cutWithin = 2 * time.Minute

func newBackup(env Env, c *client) *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write a backup of the control plane, while the controller runs", Args: one("FILE"),
		Long: "Write all records (servers, points, jobs, replication servers, enrolments, the applied configuration) as they are at one moment, and the audit log. user_data and\n" +
			"scripts are in the configuration, so the file has mode 0600. What replicas hold is not in it.\n" +
			"The keys of the bus never travel: --with-keys reads them from the data folder on the controller's machine. They never change, and one backup with\n" +
			"them, kept where nobody comes, is enough: who has it can make identities of anybody.",
		Example: "  rehost admin backup /backup/rehost-2026-03-01.tar.gz\n  rehost admin backup keys-and-all.tar.gz --with-keys /var/lib/rehost-controller",
	}
	cmd.Flags().StringVar(&keys, "with-keys", "", "put the keys of the bus into it too, from this data `folder` of the controller")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		return writeBackup(cmd.Context(), env, c, args[0], keys)
	}
	return cmd
}

func writeBackup(ctx context.Context, env Env, c *client, path, dataDir string) error {
	var keys map[string][]byte
	if dataDir != "" {
		var err error
		if keys, err = backup.ReadKeys(filepath.Join(dataDir, "bus")); err != nil {
			return err
		}
	}
	if err := c.reach(ctx, askTimeout); err != nil {
		return err
	}
	first, err := askWithin[protocol.BackupRequest, protocol.BackupPiece](ctx, c, cutWithin, protocol.VerbBackup, protocol.BackupRequest{})
	if err != nil {
		return err
	}
	if err := backup.Write(path, first.Cut, &pieces{ctx: ctx, c: c, cut: first.Cut.ID}, keys, time.Now()); err != nil {
		return err
	}
	var p printer
	p.line("wrote %s: %d records and %d messages of the audit log, as they were at %s", path, first.Cut.Records, first.Cut.Audit, first.Cut.At.Local().Format(time.DateTime))
	if keys != nil {
		p.line("the keys of the bus are in it: whoever has it can be anybody here")
	} else {
		p.line("the keys of the bus are not in it: keep one backup with them (--with-keys)")
	}
	return p.flush(env.Stdout)
}

// pieces reads a cut from the controller, one piece after the other.
type pieces struct {
	ctx    context.Context //nolint:containedctx // of the command: io.Reader has no place for it
	c      *client
	cut    string
	offset int64
	left   []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		piece, err := ask[protocol.BackupRequest, protocol.BackupPiece](p.ctx, p.c, protocol.VerbBackup, protocol.BackupRequest{Cut: p.cut, Offset: p.offset})
		if err != nil {
			return 0, fmt.Errorf("read the backup: %w", err)
		}
		if len(piece.Bytes) == 0 {
			return 0, io.EOF
		}
		p.left = piece.Bytes
		p.offset += int64(len(p.left))
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

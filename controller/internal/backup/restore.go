package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"rehost/controller/internal/audit"
	"rehost/internal/backup"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Restore says what is brought back, and to where.
type Restore struct {
	File  string
	Dir   string // the bus' folder
	Force bool   // what is there is put aside
	// Identities are renewed: nobody who had one is let in.
	NewIdentities bool
	// NewKeys are made when neither the file nor the folder has any. Then the fleet has another name too.
	NewKeys bool
	By      protocol.AuditEntry // who, for the audit log
}

// Restored is what became of it.
type Restored struct {
	Manifest backup.Manifest
	Settled
	Aside string // where what was there before is now; empty: nothing was
}

// Run brings a backup back, whole or not at all: everything is made beside the bus' folder, which is then exchanged at once. The caller has the
// lock of the controller's folder.
func (r Restore) Run(ctx context.Context) (out Restored, err error) {
	used, err := occupied(r.Dir)
	if err != nil {
		return out, err
	}
	if used && !r.Force {
		return out, hint.New(r.Dir+" holds a control plane already", "name an empty data folder with --data-dir, or put what is there aside with --force")
	}
	next := r.Dir + ".restoring"
	if err := errors.Join(os.RemoveAll(next), os.MkdirAll(next, 0o700)); err != nil { // of a run that was killed
		return out, fmt.Errorf("prepare the restore: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(next)) }()
	parts, built := filepath.Join(next, "parts"), filepath.Join(next, "bus")
	if err := errors.Join(os.Mkdir(parts, 0o700), os.Mkdir(built, 0o700)); err != nil {
		return out, fmt.Errorf("prepare the restore: %w", err)
	}
	if out.Manifest, err = backup.Extract(r.File, parts); err != nil {
		return out, err
	}
	if err := r.keys(out.Manifest, parts, built); err != nil {
		return out, err
	}
	if out.Settled, err = r.fill(ctx, out.Manifest.Cut, parts, built); err != nil {
		return out, fmt.Errorf("restore %s: %w", r.File, err)
	}
	out.Aside, err = exchange(built, r.Dir)
	return out, err
}

// occupied says whether a bus' folder has more than keys: those may have been put there for the restore.
func occupied(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	_, err = os.Stat(filepath.Join(dir, "jetstream"))
	return len(entries) > len(backup.KeyNames) || err == nil, nil
}

// keys puts the keys of the bus into the new folder: the backup's, or those that are there. Tokens that were handed out may have been used since
// the backup, and would be good once more; so they are good no more.
func (r Restore) keys(m backup.Manifest, parts, built string) error {
	from := parts
	if len(m.Keys) == 0 {
		from = r.Dir
	}
	keys, err := backup.ReadKeys(from)
	if err != nil && len(m.Keys) == 0 && r.NewKeys {
		return nil // the bus makes them
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("neither the backup nor %s has the keys of the bus: %w", r.Dir, err),
			"put authority.json, ca.pem and ca-key.pem there, from a backup with keys; or start with new ones, which nobody knows yet: --new-keys")
	}
	for name, text := range keys {
		if err := os.WriteFile(filepath.Join(built, name), text, 0o600); err != nil {
			return fmt.Errorf("restore the keys: %w", err)
		}
	}
	authority, err := broker.OpenAuthority(built)
	if err != nil {
		return err
	}
	fleet, err := authority.Fleet()
	if err != nil {
		return err
	}
	if m.Cut.Fleet != "" && fleet != m.Cut.Fleet {
		return hint.New(fmt.Sprintf("the keys in %s are of fleet %s, the backup is of fleet %s", from, fleet, m.Cut.Fleet), "use the keys of that fleet: nothing that it made in the cloud would be found with others")
	}
	if r.NewIdentities {
		return broker.Renew(built)
	}
	return broker.Renew(built, bus.RoleEnrol)
}

// fill writes the records and the audit log into a bus of their own.
func (r Restore) fill(ctx context.Context, cut protocol.Cut, parts, built string) (s Settled, err error) {
	server, err := broker.Listen(ctx, broker.ServerConfig{Dir: built, Address: "127.0.0.1:0", Unsynced: true})
	if err != nil {
		return s, err
	}
	defer server.Close()
	self, err := server.Authority().Identity(protocol.RoleController, "restore")
	if err != nil {
		return s, err
	}
	nc, err := bus.Connect(ctx, bus.Context{Bus: server.Bus(), Identity: self}, hclog.NewNullLogger())
	if err != nil {
		return s, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		err = bus.EnsureBuckets(ctx, js)
	}
	if err != nil {
		return s, err
	}
	return r.load(ctx, js, cut, filepath.Join(parts, backup.CutName))
}

// load reads a cut: records first, which fit into memory, and then the audit log.
func (r Restore) load(ctx context.Context, js jetstream.JetStream, cut protocol.Cut, path string) (s Settled, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	var records []protocol.BackupEntry
	log := audit.NewImport(js)
	for lines := json.NewDecoder(bufio.NewReader(f)); ; {
		var e protocol.BackupEntry
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return s, err
		}
		if e.Bucket != "" {
			records = append(records, e)
		} else if err := log.Add(ctx, e); err != nil {
			return s, err
		}
	}
	settled, s, err := settle(records, cut.At, time.Now())
	if err != nil {
		return s, err
	}
	for _, v := range settled {
		if err := bus.PutRecord(ctx, js, v.bucket, v.key, v.value); err != nil {
			return s, err
		}
	}
	return s, log.Note(ctx, r.By)
}

// exchange makes built durable and then the folder dir, at once. What was there before is kept beside it.
func exchange(built, dir string) (aside string, err error) {
	if err := syncAll(built); err != nil {
		return "", err
	}
	flags := uint(unix.RENAME_EXCHANGE)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		flags = unix.RENAME_NOREPLACE
	}
	if err := unix.Renameat2(unix.AT_FDCWD, built, unix.AT_FDCWD, dir, flags); err != nil {
		return "", fmt.Errorf("put the restored bus into %s: %w", dir, err)
	}
	if flags == unix.RENAME_EXCHANGE {
		aside = dir + ".before-" + time.Now().UTC().Format("20060102T150405Z")
		if err := os.Rename(built, aside); err != nil {
			return "", fmt.Errorf("keep what was there before: %w", err)
		}
	}
	return aside, syncAll(filepath.Dir(dir))
}

// syncAll makes what is on a folder's filesystem durable.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	return nil
}

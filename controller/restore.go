package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rehost/controller/internal/backup"
	"rehost/internal/hint"
	"rehost/internal/lock"
	"rehost/protocol"
)

// lockPatience is how long a controller waits for its predecessor to end.
const lockPatience = 10 * time.Second

// busDir is where the bus keeps its keys and its store, in a controller's data folder.
func busDir(dir string) string { return filepath.Join(dir, "bus") }

// lockDir makes this process the only one that works in a data folder, as long as it lives or until release.
func lockDir(ctx context.Context, dir string, patience time.Duration) (release func() error, err error) {
	return lock.Take(ctx, filepath.Join(dir, "lock"), patience)
}

// RestoreConfig says which backup is brought back to where.
type RestoreConfig struct {
	File          string // that `rehost admin backup` wrote
	Dir           string // data folder of a controller that does not run
	Force         bool   // what the folder holds is put aside
	NewIdentities bool   // nobody who had an identity is let in
	NewKeys       bool   // when neither the backup nor the folder has keys
	Reason        string // for the audit log
}

// Restored is what became of a restore.
type Restored = backup.Restored

// Restore brings a backup of the control plane back into the folder of a controller that is stopped, whole or not at all. When that
// controller starts, replicas are compared with their sources, and what an old record could do harm by waits for the agent's word.
func Restore(ctx context.Context, cfg RestoreConfig) (out Restored, err error) {
	request, err := json.Marshal(map[string]any{"file": filepath.Base(cfg.File), "new_identities": cfg.NewIdentities, "new_keys": cfg.NewKeys})
	if err != nil {
		return out, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return out, hint.Wrap(fmt.Errorf("restore: %w", err), "name a data folder that you may write to with --data-dir")
	}
	release, err := lockDir(ctx, cfg.Dir, 0)
	if errors.Is(err, lock.ErrHeld) {
		return out, hint.New("a controller runs in "+cfg.Dir, "stop it first: systemctl stop rehost-controller")
	}
	if err != nil {
		return out, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	return backup.Restore{
		File: cfg.File, Dir: busDir(cfg.Dir), Force: cfg.Force, NewIdentities: cfg.NewIdentities, NewKeys: cfg.NewKeys,
		By: protocol.AuditEntry{At: time.Now(), Operator: "local", Verb: "restore", Request: request, Reason: cfg.Reason},
	}.Run(ctx)
}

// Package state owns what the local cloud remembers: volumes, snapshots,
// images, instances, groups, tags and client tokens, in one file that is
// replaced as a whole. It has no effects other than that file: the files behind
// volumes and the processes behind instances belong to others.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"rehost/internal/hint"
)

// Store holds the current state and its file.
type Store struct {
	path    string
	mu      sync.Mutex // one Update at a time
	current atomic.Pointer[State]
}

// Open reads the state file, or starts an empty one.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.current.Store(empty())
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	st := empty()
	if err := json.Unmarshal(raw, st); err != nil {
		return nil, hint.Wrap(fmt.Errorf("read state %s: %w", path, err), "move the data folder "+filepath.Dir(path)+" away, or restore its state.json")
	}
	s.current.Store(st)
	return s, nil
}

func empty() *State {
	return &State{
		Volumes: map[string]*Volume{}, Snapshots: map[string]*Snapshot{}, Images: map[string]*Image{},
		Instances: map[string]*Instance{}, Groups: map[string]*Group{}, Keys: map[string]*KeyPair{}, Templates: map[string]*Template{},
		Tags: map[string]map[string]string{}, Tokens: map[string]Token{},
	}
}

// View returns the current state. It never changes; nobody may change it.
func (s *Store) View() *State { return s.current.Load() }

// Update lets change work on a copy of the state and makes the copy current
// once it is on the disk. When change fails, or the disk does, nothing happened.
// change must not call Update, and should not wait for anything slow.
func (s *Store) Update(change func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.current.Load().clone()
	if err != nil {
		return err
	}
	if err := change(next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(next, "", " ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := WriteFile(s.path, raw); err != nil {
		return err
	}
	s.current.Store(next)
	return nil
}

func (s *State) clone() (*State, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("copy state: %w", err)
	}
	next := empty()
	if err := json.Unmarshal(raw, next); err != nil {
		return nil, fmt.Errorf("copy state: %w", err)
	}
	return next, nil
}

// WriteFile replaces a file so that after a crash there is the old or the new
// content, never a part. The file is readable by its owner only.
func WriteFile(path string, content []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"rehost/convert/internal/guest"
	"rehost/internal/hint"
	"rehost/protocol"
)

// recordDir is where the conversion keeps, in the guest, what it needs for an undo.
const (
	recordDir  = stateDir + "/" + recordName
	recordFile = recordDir + "/record.json"
	maxRecord  = 16 << 20
)

// record says how each changed file was before the first conversion.
type record struct {
	Version  int        `json:"version"`
	Original []original `json:"originals"`
	Scripts  []string   `json:"scripts,omitempty"` // of the owner, that ran in the conversion
}

// original is one file's state before.
type original struct {
	Path   string `json:"path"`
	Action string `json:"action"`           // the change that was made
	Kept   string `json:"kept,omitempty"`   // file name of the copy, in the record's folder
	Link   string `json:"link,omitempty"`   // it was a link to this
	Size   int64  `json:"size,omitempty"`   // it was this long: cut off what was appended
	Folder uint32 `json:"folder,omitempty"` // it was a folder with these permissions
}

// Apply makes the changes of a plan and returns them. Each file changes in one
// step. It may be interrupted at any moment and called again with a new plan.
// What is needed for [Undo] is on the disk before the first change is made.
func Apply(root *Root, plan Plan) ([]protocol.Change, error) {
	changes := []protocol.Change{}
	if len(plan.Edits) == 0 {
		return changes, nil
	}
	for _, e := range plan.Edits {
		if err := unchanged(root, e); err != nil {
			return nil, err
		}
	}
	if err := keepOriginals(root, plan.Edits); err != nil {
		return nil, fmt.Errorf("keep the originals: %w", err)
	}
	var t transaction
	for _, e := range plan.Edits {
		if err := t.add(root, e); err != nil {
			return nil, errors.Join(fmt.Errorf("%s %s: %w", e.Action, e.Path, err), t.discard())
		}
		changes = append(changes, e.Change)
	}
	return changes, t.commit(root)
}

// transaction is a set of changes: all that can fail for lack of space, but files that grow, is done
// before the first file changes, and the disk is waited for twice, not per file.
type transaction struct {
	staged []*guest.Staged
	then   []func() error
}

func (t *transaction) stage(s *guest.Staged, err error) error {
	if err == nil {
		t.staged = append(t.staged, s)
		t.then = append(t.then, s.Commit)
	}
	return err
}

func (t *transaction) add(root *Root, e Edit) error {
	switch e.Action {
	case ActionCreate, ActionEdit:
		return t.stage(root.Stage(e.Path, bytes.NewReader(e.Data), e.Mode))
	case ActionAppend:
		t.then = append(t.then, func() error { return grow(root, e) })
		return nil
	case ActionRemove:
		if e.Mode.IsDir() {
			t.then = append(t.then, func() error { return root.RemoveEmpty(e.Path) })
			return nil
		}
		t.then = append(t.then, func() error { return root.Remove(e.Path) })
		return nil
	case ActionLink:
		t.then = append(t.then, func() error { return root.Symlink(e.Target, e.Path) })
		return nil
	}
	return fmt.Errorf("unknown action %q", e.Action)
}

// grow replaces a file by a longer one. Initramfs images are large and /boot is small: there is one copy at a time.
func grow(root *Root, e Edit) error {
	f, err := root.OpenFile(e.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s, err := root.Stage(e.Path, io.MultiReader(io.LimitReader(f, e.OldSize), bytes.NewReader(e.Data)), e.Mode)
	if err != nil {
		return err
	}
	if err := root.Sync(); err != nil {
		return errors.Join(err, s.Discard())
	}
	return s.Commit()
}

func (t *transaction) commit(root *Root) error {
	if err := root.Sync(); err != nil {
		return errors.Join(err, t.discard())
	}
	if err := t.run(); err != nil {
		return err
	}
	return root.Sync()
}

func (t *transaction) run() error {
	for _, do := range t.then {
		if err := do(); err != nil {
			return errors.Join(err, t.discard())
		}
	}
	return nil
}

func (t *transaction) discard() error {
	var err error
	for _, s := range t.staged {
		err = errors.Join(err, s.Discard())
	}
	return err
}

// unchanged makes sure that a file is what the plan was made from.
func unchanged(root *Root, e Edit) error {
	if e.Action == ActionLink || e.Mode.IsDir() {
		return nil
	}
	now, err := sumNow(root, e)
	if err != nil && !missing(err) {
		return fmt.Errorf("check %s: %w", e.Path, err)
	}
	if e.Before != "" && now != e.Before {
		return fmt.Errorf("check %s: it changed since the plan was made", e.Path)
	}
	return nil
}

// sumNow returns the sum of the file that an edit changes. One whose stamp is that of the plan is not read again: an
// initramfs takes a second of an emulated processor.
func sumNow(root *Root, e Edit) (string, error) {
	if e.stamp != "" {
		f, err := root.OpenFile(e.Path)
		if err != nil {
			return "", err
		}
		mark, err := stamp(f)
		if err := errors.Join(err, f.Close()); err != nil || mark == e.stamp {
			return e.Before, err
		}
	}
	return fileSum(root, e.Path)
}

func fileSum(root *Root, name string) (string, error) {
	f, err := root.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// keepOriginals copies what will be changed, and writes the record. A file that is
// in the record already keeps its first original.
func keepOriginals(root *Root, edits []Edit) error {
	rec, err := readRecord(root)
	if err != nil {
		return err
	}
	if err := unstage(root, rec); err != nil {
		return err
	}
	var t transaction
	for _, e := range edits {
		if slices.ContainsFunc(rec.Original, func(o original) bool { return o.Path == e.Path }) {
			continue
		}
		o := original{Path: e.Path, Action: e.Action}
		info, err := root.Lstat(e.Path)
		switch {
		case missing(err):
		case err != nil:
			return err
		case info.IsDir():
			o.Folder = uint32(info.Mode().Perm())
		case e.Action == ActionAppend:
			o.Size = e.OldSize
		case info.Mode()&fs.ModeSymlink != 0 && (e.Action == ActionRemove || e.Action == ActionLink):
			if o.Link, err = root.Readlink(e.Path); err != nil {
				return err
			}
		default:
			o.Kept = strings.ReplaceAll(strings.TrimPrefix(e.Path, "/"), "/", "+")
			if err := t.stage(root.StageCopy(e.Path, path.Join(recordDir, o.Kept))); err != nil {
				return errors.Join(err, t.discard())
			}
		}
		rec.Original = append(rec.Original, o)
	}
	// The record comes last: it must not name a copy that is not there.
	if err := t.stage(rec.stage(root)); err != nil {
		return errors.Join(err, t.discard())
	}
	if err := root.Sync(); err != nil {
		return errors.Join(err, t.discard())
	}
	// The renames are on the disk before the first change is: the caller syncs before that.
	return t.run()
}

// stage makes the record ready to be put in its place.
func (rec record) stage(root *Root) (*guest.Staged, error) {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return nil, err
	}
	return root.Stage(recordFile, bytes.NewReader(append(data, '\n')), 0o600)
}

// NoteScripts takes note, on the disk, that scripts run in the guest: what they change is in no record.
func NoteScripts(root *Root, names []string) error {
	rec, err := readRecord(root)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains(rec.Scripts, n) {
			rec.Scripts = append(rec.Scripts, n)
		}
	}
	var t transaction
	if err := t.stage(rec.stage(root)); err != nil {
		return err
	}
	return t.commit(root)
}

// unstage removes what a run that was killed had made ready for the files of the record.
func unstage(root *Root, rec record) error {
	for _, o := range rec.Original {
		if err := root.Unstage(o.Path); err != nil && !missing(err) {
			return fmt.Errorf("remove what a killed run left beside %s: %w", o.Path, err)
		}
	}
	return nil
}

func readRecord(root *Root) (record, error) {
	rec := record{Version: 1}
	data, err := root.ReadFile(recordFile, maxRecord)
	if missing(err) {
		return rec, root.Mkdir(recordDir, 0o700)
	}
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("read %s: %w", recordFile, err)
	}
	if rec.Version != 1 {
		return rec, fmt.Errorf("read %s: version %d", recordFile, rec.Version)
	}
	return rec, nil
}

// Undo gives every file that a conversion changed its bytes, owner and mode back,
// and removes the record. It is no error if there was no conversion. Where scripts ran there is no undo: what they
// changed is not known, and a file that they wrote anew, cut back to its old length, would be worse than none.
func Undo(root *Root) error {
	rec, err := readRecord(root)
	if err != nil {
		return err
	}
	if len(rec.Scripts) > 0 {
		return hint.New("there is no undo: scripts ran in the conversion ("+strings.Join(rec.Scripts, ", ")+"), and what they changed is not known",
			"take another copy of the disk from its point or backup")
	}
	if err := unstage(root, rec); err != nil {
		return err
	}
	var t transaction
	for _, o := range slices.Backward(rec.Original) {
		if err := t.addUndo(root, o); err != nil {
			return errors.Join(fmt.Errorf("undo %s: %w", o.Path, err), t.discard())
		}
	}
	if err := t.commit(root); err != nil {
		return err
	}
	names, err := root.ReadDir(recordDir)
	if err != nil {
		return err
	}
	// The record goes last: an interrupted undo can be called again.
	for _, n := range names {
		if n != path.Base(recordFile) {
			err = errors.Join(err, root.Remove(path.Join(recordDir, n)))
		}
	}
	return errors.Join(err, root.Remove(recordFile), root.RemoveEmpty(recordDir), root.RemoveEmpty(stateDir))
}

func (t *transaction) addUndo(root *Root, o original) error {
	switch {
	case o.Folder != 0:
		return root.Mkdir(o.Path, fs.FileMode(o.Folder).Perm())
	case o.Action == ActionAppend:
		t.then = append(t.then, func() error { return root.Truncate(o.Path, o.Size) })
		return nil
	case o.Link != "":
		t.then = append(t.then, func() error { return root.Symlink(o.Link, o.Path) })
		return nil
	case o.Kept == "":
		t.then = append(t.then, func() error { return root.Remove(o.Path) })
		return nil
	case path.Base(o.Kept) != o.Kept:
		return fmt.Errorf("the record names %q", o.Kept)
	}
	if o.Action != ActionLink {
		return t.stage(root.StageCopy(path.Join(recordDir, o.Kept), o.Path))
	}
	// The link must go first: the copy would be put where it leads to.
	t.then = append(t.then, func() error {
		if err := root.Remove(o.Path); err != nil {
			return err
		}
		s, err := root.StageCopy(path.Join(recordDir, o.Kept), o.Path)
		if err != nil {
			return err
		}
		return errors.Join(root.Sync(), s.Commit())
	})
	return nil
}

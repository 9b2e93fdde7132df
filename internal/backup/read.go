package backup

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rehost/internal/hint"
)

// maxManifest bounds the manifest, and each key.
const maxManifest = 1 << 20

// Extract verifies the backup at path and writes its parts into dir, which exists and is the caller's: on an error, what is there means nothing.
func Extract(path, dir string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Manifest{}, hint.New("there is no file "+path, "name the file that `rehost admin backup` wrote")
		}
		return Manifest{}, fmt.Errorf("read backup: %w", err)
	}
	defer f.Close() //nolint:errcheck // it is only read
	packed, err := gzip.NewReader(f)
	if err != nil {
		return Manifest{}, alien(path)
	}
	in := tar.NewReader(packed)
	m, err := readManifest(in, path)
	if err != nil {
		return Manifest{}, err
	}
	if err := m.newer(path); err != nil {
		return Manifest{}, err
	}
	err = extract(in, m, dir)
	if err == nil { // the rest of the last block, and the checksum of all
		_, err = io.Copy(io.Discard, packed)
	}
	return m, damaged(path, err)
}

func alien(path string) error {
	return hint.New(path+" is not a backup of a control plane", "name the file that `rehost admin backup` wrote")
}

// damaged tells what is wrong with the file from what is wrong with the disk that it is extracted to.
func damaged(path string, err error) error {
	if err == nil {
		return nil
	}
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		return hint.Wrap(fmt.Errorf("read backup %s: %w", path, err), "look at the space there; nothing was changed")
	}
	what := "was changed or is damaged"
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		what = "was cut off"
	}
	return hint.Wrap(fmt.Errorf("backup %s %s: %w", path, what, err), "use another copy of it, or an earlier backup; nothing was changed")
}

func readManifest(in *tar.Reader, path string) (m Manifest, err error) {
	head, err := in.Next()
	if err != nil && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum)) {
		return m, damaged(path, err)
	}
	if err != nil || head.Name != manifestName || head.Size > maxManifest {
		return m, alien(path)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return m, damaged(path, err)
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Format != format {
		return m, alien(path)
	}
	return m, nil
}

func extract(in *tar.Reader, m Manifest, dir string) error {
	if err := extractOne(in, CutName, m.Cut.Bytes, m.Cut.SHA256, filepath.Join(dir, CutName)); err != nil {
		return err
	}
	for _, k := range m.Keys {
		if k.Name != filepath.Base(k.Name) || k.Bytes > maxManifest {
			return fmt.Errorf("a key called %q of %d bytes", k.Name, k.Bytes)
		}
		if err := extractOne(in, keysPrefix+k.Name, k.Bytes, k.SHA256, filepath.Join(dir, k.Name)); err != nil {
			return err
		}
	}
	if head, err := in.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%s, which the manifest does not name", head.Name)
		}
		return err
	}
	return nil
}

func extractOne(in *tar.Reader, name string, size int64, sha, to string) (err error) {
	head, err := in.Next()
	if err != nil {
		return err
	}
	if head.Name != name || head.Size != size {
		return fmt.Errorf("%s of %d bytes, where the manifest has %s of %d", head.Name, head.Size, name, size)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), in); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != sha {
		return fmt.Errorf("%s has checksum %.12s, the manifest says %.12s", name, got, sha)
	}
	return nil
}

// ReadKeys reads the keys in a bus' folder, for [Write].
func ReadKeys(dir string) (map[string][]byte, error) {
	keys := map[string][]byte{}
	for _, name := range KeyNames {
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, hint.New("no keys of a bus in "+dir, "run this on the controller's machine, and name its data_dir")
		case errors.Is(err, fs.ErrPermission):
			return nil, hint.Wrap(fmt.Errorf("read the keys of the bus: %w", err), "run this as root, or as the user that the controller runs as")
		case err != nil:
			return nil, fmt.Errorf("read the keys of the bus: %w", err)
		}
		keys[name] = text
	}
	return keys, nil
}

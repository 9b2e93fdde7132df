package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

// Write writes a backup to path, mode 0600, whole or not at all, over whatever is there. The cut's bytes are read from content, and are
// compared with what the cut says of itself. keys are files of the bus' folder by name; nil: none.
func Write(path string, cut protocol.Cut, content io.Reader, keys map[string][]byte, now time.Time) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".rehost-backup-*") // mode 0600
	if err != nil {
		return hint.Wrap(fmt.Errorf("write backup: %w", err), "name a file in a folder that exists and that you may write to")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temp.Close(), os.Remove(temp.Name()))
		}
	}()
	m := Manifest{Format: format, Version: formatVersion, Made: now, By: version.String(), Cut: cut}
	for _, name := range KeyNames {
		if text, ok := keys[name]; ok {
			m.Keys = append(m.Keys, Key{Name: name, Bytes: int64(len(text)), SHA256: digest(text)})
		}
	}
	packed := gzip.NewWriter(temp)
	if err := writeTar(packed, m, content, keys); err != nil {
		if hint.Of(err) == "" {
			err = hint.Wrap(err, "look at the space there; what was there before is unchanged")
		}
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	if err := errors.Join(packed.Close(), temp.Sync()); err != nil {
		return hint.Wrap(fmt.Errorf("write backup %s: %w", path, err), "look at the space there; what was there before is unchanged")
	}
	if err := errors.Join(os.Rename(temp.Name(), path), temp.Close()); err != nil {
		return fmt.Errorf("write backup %s: %w", path, err)
	}
	return nil
}

// KeyNames are the files of the bus' folder that are keys.
var KeyNames = []string{"authority.json", "ca.pem", "ca-key.pem"}

func writeTar(to io.Writer, m Manifest, content io.Reader, keys map[string][]byte) error {
	out := tar.NewWriter(to)
	add := func(name string, size int64, from io.Reader) error {
		err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: m.Made})
		if err == nil {
			_, err = io.Copy(out, from)
		}
		return err
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	if err := add(manifestName, int64(len(text)), bytes.NewReader(text)); err != nil {
		return err
	}
	sum := sha256.New()
	if err := add(CutName, m.Cut.Bytes, io.TeeReader(content, sum)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != m.Cut.SHA256 {
		return hint.New("what the controller sent is not what it has", "run it again")
	}
	for _, k := range m.Keys {
		if err := add(keysPrefix+k.Name, k.Bytes, bytes.NewReader(keys[k.Name])); err != nil {
			return err
		}
	}
	return out.Close()
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Package backup is the file of a backup: a gzip'd tar with a manifest, the control plane's cut and, when the operator asks for it, the
// keys of the bus. It verifies all of a file before anybody sees a part of it, and knows nothing of what records mean.
package backup

import (
	"fmt"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	format        = "rehost backup"
	formatVersion = 1
)

// Names in the file.
const (
	manifestName = "manifest.json"
	CutName      = "control-plane.jsonl"
	keysPrefix   = "keys/"
)

// Manifest is the first thing in the file.
type Manifest struct {
	Format  string       `json:"format"`
	Version int          `json:"version"`
	Made    time.Time    `json:"made"`
	By      string       `json:"by"` // version of rehost
	Cut     protocol.Cut `json:"cut"`
	Keys    []Key        `json:"keys,omitempty"`
}

// Key is a file of the bus' folder.
type Key struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// newer says that a file can only be read by a later version.
func (m Manifest) newer(path string) error {
	const next = "use that version of rehost, or a later one"
	switch {
	case m.Version > formatVersion:
		return hint.New(fmt.Sprintf("%s is a backup of a newer version: rehost %s wrote format %d, this one knows up to %d", path, m.By, m.Version, formatVersion), next)
	case m.Cut.Format > protocol.RecordFormat:
		return hint.New(fmt.Sprintf("the records in %s are of a newer version: rehost %s wrote format %d, this one knows up to %d", path, m.Cut.Version, m.Cut.Format, protocol.RecordFormat), next)
	}
	return nil
}

package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"strconv"
)

// tempPrefix starts the name of a file that is not complete yet.
const tempPrefix = ".rehost-"

// tempName is where the new content of p waits to be put in its place. It is the same in each run, so that a run finds what a
// killed one has left; n counts the contents that one run stages for the same path.
func tempName(p string, n int) string {
	sum := sha256.Sum256([]byte(p))
	name := tempPrefix + hex.EncodeToString(sum[:8])
	if n > 0 {
		name += "-" + strconv.Itoa(n)
	}
	return path.Join(path.Dir(p), name)
}

// Unstage removes what a killed run has staged for a file and not put in its place.
func (r *Root) Unstage(name string) error {
	p, err := r.Resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for n := range max(r.staged[p], 1) {
		temp := inside(tempName(p, n))
		info, err := r.dir.Lstat(temp)
		if err != nil || !info.Mode().IsRegular() { // none, or none of ours
			continue
		}
		if err := r.dir.Remove(temp); err != nil {
			return err
		}
	}
	return nil
}

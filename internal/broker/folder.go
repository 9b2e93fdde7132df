package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nkeys"

	"rehost/internal/hint"
	"rehost/internal/jsonfile"
)

// authorityName is the file of the keys that make identities, in the bus's folder.
const authorityName = "authority.json"

// OpenAuthority opens the keys of a bus that exists, by its folder, whether its server runs or not. It is for who administers the
// controller's machine.
func OpenAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, authorityName)
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.New("no keys of a bus in "+dir, "run this on the controller's machine, and name its data_dir with --data-dir")
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(fmt.Errorf("open the keys of the bus: %w", err), "run this as root, or as the user that the controller runs as")
	case err != nil:
		return nil, fmt.Errorf("open the keys of the bus: %w", err)
	}
	return openAuthority(path)
}

// Renew replaces, in a bus' folder, the keys that sign for roles; without any, those for all of them. What they have signed is good no
// more; the fleet's name stays, and so does the certificate.
func Renew(dir string, roles ...string) error {
	path := filepath.Join(dir, authorityName)
	var file authorityFile
	if err := jsonfile.Read(path, &file); err != nil {
		return fmt.Errorf("renew the keys of the bus: %w", err)
	}
	for _, g := range grants {
		if len(roles) == 0 || slices.Contains(roles, g.role) {
			file.Roles[g.role] = newSeed(nkeys.CreateAccount)
		}
	}
	if _, err := file.open(); err != nil {
		return fmt.Errorf("renew the keys of the bus: %w", err)
	}
	return jsonfile.Write(path, file)
}

// Package passphrase reads the passphrase of LUKS devices. It keeps none, and no error of it shows one.
package passphrase

import (
	"fmt"
	"io"
	"os"
	"strings"

	"rehost/internal/hint"
	"rehost/protocol"
)

// limit is cryptsetup's, in bytes.
const limit = 512

// ReadFile reads a passphrase from a file.
func ReadFile(path string) (protocol.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("read the passphrase: %w", err), "name a file that can be read and has the passphrase, and nothing else, in it")
	}
	defer func() { _ = f.Close() }()
	return Read(f, path)
}

// Read reads a passphrase: one line, whose end is no part of it. name is for the error.
func Read(in io.Reader, name string) (protocol.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(in, limit+3))
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" || len(secret) > limit || strings.Contains(secret, "\n") {
		return "", hint.New(fmt.Sprintf("read the passphrase: %s is not one line of at most %d bytes", name, limit), "write the passphrase, and nothing else, into the file")
	}
	return protocol.Secret(secret), nil
}

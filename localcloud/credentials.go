package localcloud

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"rehost/internal/hint"
	"rehost/localcloud/internal/api"
	"rehost/localcloud/internal/state"
)

// ensureCredentials reads the endpoint's key, and makes one at the first start.
func ensureCredentials(path string) (api.Credentials, error) {
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c := newCredentials()
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.AccessKeyID, c.SecretAccessKey)
		return c, state.WriteFile(path, []byte(text))
	case err != nil:
		return api.Credentials{}, fmt.Errorf("read credentials: %w", err)
	}
	var c api.Credentials
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			c.AccessKeyID = strings.TrimSpace(value)
		case "aws_secret_access_key":
			c.SecretAccessKey = strings.TrimSpace(value)
		}
	}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return c, hint.New("read credentials "+path+": no key in it", "delete the file: the next start makes a new one")
	}
	return c, nil
}

// newCredentials makes a key that looks like one of AWS.
func newCredentials() api.Credentials {
	var secret [30]byte
	_, _ = rand.Read(secret[:]) // never fails
	return api.Credentials{AccessKeyID: "AKIA" + rand.Text()[:16], SecretAccessKey: base64.StdEncoding.EncodeToString(secret[:])}
}

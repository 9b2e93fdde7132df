package protocol

import (
	"crypto/sha256"
	"fmt"
	"regexp"
)

// maxName keeps a name usable as a subject token, a file name and a tag value.
const maxName = 63

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// CheckName says whether s may name a server, an application, a wave or a
// replication server: lower-case letters, digits and inner hyphens, at most 63.
func CheckName(s string) error {
	if len(s) > maxName || !namePattern.MatchString(s) {
		return fmt.Errorf("name %q: want 1 to %d lower-case letters, digits or inner hyphens", s, maxName)
	}
	return nil
}

// ServerKey is the fixed-size form of a server's name in a frame's header.
func ServerKey(server string) [16]byte {
	sum := sha256.Sum256([]byte(server))
	return [16]byte(sum[:16])
}

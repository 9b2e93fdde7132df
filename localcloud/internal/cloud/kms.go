package cloud

import (
	"regexp"
	"slices"
	"strings"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// defaultKey encrypts what names no key. It is always there.
const defaultKey = "alias/aws/ebs"

// keyForm is how a key can be named: id, alias, or the ARN of either.
var keyForm = regexp.MustCompile(`^(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key|alias)/[\w/-]+|(alias/[\w/-]+)|((mrk-)?[0-9a-f-]{32,36}))$`)

// checkKey refuses a KMS key that is malformed, not offered, or named for a
// volume that is not encrypted.
func (c *Cloud) checkKey(m *state.Mapping) error {
	switch {
	case m.KMSKeyID == "":
		return nil
	case !m.Encrypted:
		return fault.New("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	case m.KMSKeyID == defaultKey:
		return nil
	case !keyForm.MatchString(m.KMSKeyID):
		return fault.Invalid("kmsKeyId", m.KMSKeyID, "Give the id, the alias or the ARN of a key.")
	case len(c.KMSKeys) == 0:
		return nil
	}
	short := m.KMSKeyID
	if strings.HasPrefix(short, "arn:") {
		_, short, _ = strings.Cut(short, "/")
		if strings.Contains(m.KMSKeyID, ":alias/") {
			short = "alias/" + short
		}
	}
	if !slices.Contains(c.KMSKeys, short) && !slices.Contains(c.KMSKeys, m.KMSKeyID) {
		return fault.Invalid("kmsKeyId", m.KMSKeyID, "The given key ID is not accessible.")
	}
	return nil
}

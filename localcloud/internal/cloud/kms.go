package cloud

import (
	"regexp"
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
	}
	if key, err := c.Key(m.KMSKeyID); err != nil || key.State != keyEnabled {
		return fault.Invalid("kmsKeyId", m.KMSKeyID, "The given key ID is not accessible.")
	}
	return nil
}

const keyEnabled = "Enabled"

// Key is a KMS key. It is a name and a state: nothing is encrypted here.
type Key struct{ ID, ARN, State string }

// Key finds a key by its id, its alias, or the ARN of either. One of another region is none of these.
func (c *Cloud) Key(name string) (Key, error) {
	home := "arn:aws:kms:" + c.Region + ":" + c.Account + ":"
	short := strings.TrimPrefix(strings.TrimPrefix(name, home), "key/")
	state, there := keyEnabled, len(c.KMSKeys) == 0 || short == defaultKey
	for _, k := range c.KMSKeys {
		id, s, set := strings.Cut(k, "=")
		if id != short && id != name {
			continue
		}
		if there = true; set {
			state = s
		}
	}
	if !there || !keyForm.MatchString(name) || strings.HasPrefix(short, "arn:") {
		return Key{}, fault.New("NotFoundException", "Key '%s' does not exist", name)
	}
	return Key{ID: short, ARN: home + "key/" + strings.TrimPrefix(short, "alias/"), State: state}, nil
}

package state

import "time"

// KeyPair is a public SSH key. The private half is given out once and kept nowhere.
type KeyPair struct {
	ID, Name string
	// Type is rsa or ed25519.
	Type string
	// Public is in the form of authorized_keys.
	Public      string
	Fingerprint string
	Created     time.Time
}

// KeyNamed returns the key pair with a name, or nil.
func (s *State) KeyNamed(name string) *KeyPair {
	for _, k := range s.Keys {
		if k.Name == name {
			return k
		}
	}
	return nil
}

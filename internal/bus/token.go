package bus

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"rehost/internal/hint"
)

// RoleEnrol is the role of a one-time token: it may ask to enrol, and nothing else.
const RoleEnrol = "enrol"

// Token is the content of a one-time token: the credentials of a user who may only enrol. Seed is secret.
type Token struct {
	JWT  string `json:"jwt"`
	Seed string `json:"seed"`
}

// Encode returns the token as one word, for a file.
func (t Token) Encode() (string, error) {
	packed, err := json.Marshal(t)
	return base64.RawURLEncoding.EncodeToString(packed), err
}

// DecodeToken reads what Encode wrote.
func DecodeToken(text string) (Token, error) {
	packed, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(text))
	var t Token
	if err == nil {
		err = json.Unmarshal(packed, &t)
	}
	if err != nil || t.JWT == "" || t.Seed == "" {
		return Token{}, hint.New("enrolment token: not readable", "make a new one: rehost server token NAME")
	}
	return t, nil
}

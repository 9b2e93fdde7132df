package broker

import (
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/jwt/v2"
)

// Revoke lets identities in no more, by their public keys, and ends their connections. What was signed for a key after its time is
// good. The server forgets it when it ends: the caller keeps the keys, and revokes them again.
func (s *Server) Revoke(keys map[string]time.Time) error {
	s.revoking.Lock()
	defer s.revoking.Unlock()
	maps.Copy(s.authority.revoked, keys)
	text, err := s.authority.accountJWT()
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeAccountClaims(text)
	if err != nil {
		return fmt.Errorf("revoke identities: %w", err)
	}
	if err := s.ns.AccountResolver().Store(claims.Subject, text); err != nil {
		return fmt.Errorf("revoke identities: %w", err)
	}
	account, err := s.ns.LookupAccount(claims.Subject)
	if err != nil {
		return fmt.Errorf("revoke identities: %w", err)
	}
	s.ns.UpdateAccountClaims(account, claims)
	return nil
}

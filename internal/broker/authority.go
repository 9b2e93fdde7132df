package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/jsonfile"
	"rehost/protocol"
)

// MaxTokenTTL bounds how long a one-time token may wait to be used.
const MaxTokenTTL = time.Hour

// fleetChars of a public key: 75 bits that differ.
const fleetChars = 16

// identityTTL is how long an identity is good for; see docs/security.md for renewal.
const identityTTL = 365 * 24 * time.Hour

// Authority holds the keys that make identities: an operator, one account for the fleet,
// and one scoped signing key for each role.
type Authority struct {
	operator, account, system nkeys.KeyPair
	roles                     map[string]nkeys.KeyPair
	revoked                   map[string]time.Time // by public key; [Server.Revoke] changes it
}

// authorityFile is how an Authority is kept: seeds.
type authorityFile struct {
	Operator string            `json:"operator"`
	Account  string            `json:"account"`
	System   string            `json:"system"`
	Roles    map[string]string `json:"roles"`
}

// openAuthority loads the keys from path, or makes them.
func openAuthority(path string) (*Authority, error) {
	var file authorityFile
	err := jsonfile.Read(path, &file)
	if errors.Is(err, fs.ErrNotExist) {
		return createAuthority(path)
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read the authority's keys: %w", err), "restore the file from a backup: every identity depends on it")
	}
	return file.open()
}

func (f *authorityFile) open() (*Authority, error) {
	a := &Authority{roles: map[string]nkeys.KeyPair{}, revoked: map[string]time.Time{}}
	var err error
	for _, k := range []struct {
		seed string
		pair *nkeys.KeyPair
	}{{f.Operator, &a.operator}, {f.Account, &a.account}, {f.System, &a.system}} {
		if *k.pair, err = nkeys.FromSeed([]byte(k.seed)); err != nil {
			return nil, fmt.Errorf("read a key of the authority: %w", err)
		}
	}
	for _, g := range grants {
		if a.roles[g.role], err = nkeys.FromSeed([]byte(f.Roles[g.role])); err != nil {
			return nil, fmt.Errorf("read the authority's key for role %s: %w", g.role, err)
		}
	}
	return a, nil
}

func createAuthority(path string) (*Authority, error) {
	file := authorityFile{Roles: map[string]string{}}
	file.Operator = newSeed(nkeys.CreateOperator)
	file.Account, file.System = newSeed(nkeys.CreateAccount), newSeed(nkeys.CreateAccount)
	for _, g := range grants {
		file.Roles[g.role] = newSeed(nkeys.CreateAccount)
	}
	a, err := file.open() // an empty seed shows here
	if err != nil {
		return nil, err
	}
	return a, jsonfile.Write(path, file)
}

// newSeed makes a key; without one it is empty, which shows when it is opened.
func newSeed(create func() (nkeys.KeyPair, error)) string {
	pair, err := create()
	if err != nil {
		return ""
	}
	seed, err := pair.Seed()
	if err != nil {
		return ""
	}
	return string(seed)
}

// Fleet names the fleet among others: the public half of its account's key, in short. It is the same for as long as the
// keys are kept, also after a restore.
func (a *Authority) Fleet() (string, error) {
	pub, err := a.account.PublicKey()
	if err != nil {
		return "", fmt.Errorf("name the fleet: %w", err)
	}
	return strings.ToLower(pub[:fleetChars]), nil
}

// configure makes the server trust this authority.
func (a *Authority) configure(opts *natsserver.Options) error {
	account, err := a.accountJWT()
	if err != nil {
		return err
	}
	systemPub, err := a.system.PublicKey()
	if err != nil {
		return err
	}
	system, err := jwt.NewAccountClaims(systemPub).Encode(a.operator)
	if err != nil {
		return fmt.Errorf("sign the system account: %w", err)
	}
	operatorPub, err := a.operator.PublicKey()
	if err != nil {
		return err
	}
	claims := jwt.NewOperatorClaims(operatorPub)
	claims.Name, claims.SystemAccount = "rehost", systemPub
	operatorJWT, err := claims.Encode(a.operator)
	if err != nil {
		return fmt.Errorf("sign the operator: %w", err)
	}
	if claims, err = jwt.DecodeOperatorClaims(operatorJWT); err != nil {
		return err
	}
	accountPub, err := a.account.PublicKey()
	if err != nil {
		return err
	}
	resolver := &natsserver.MemAccResolver{}
	if err := errors.Join(resolver.Store(accountPub, account), resolver.Store(systemPub, system)); err != nil {
		return err
	}
	opts.TrustedOperators = []*jwt.OperatorClaims{claims}
	opts.SystemAccount = systemPub
	opts.AccountResolver = resolver
	return nil
}

func (a *Authority) accountJWT() (string, error) {
	pub, err := a.account.PublicKey()
	if err != nil {
		return "", err
	}
	claims := jwt.NewAccountClaims(pub)
	claims.Name = "fleet"
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
		MaxAckPending: jwt.NoLimit, MemoryMaxStreamBytes: jwt.NoLimit, DiskMaxStreamBytes: jwt.NoLimit,
	}
	for _, g := range grants {
		key, err := a.roles[g.role].PublicKey()
		if err != nil {
			return "", err
		}
		scope := jwt.NewUserScope()
		scope.Key, scope.Role, scope.Template = key, g.role, g.template()
		claims.SigningKeys.AddScopedSigner(scope)
	}
	for key, at := range a.revoked {
		claims.RevokeAt(key, at)
	}
	text, err := claims.Encode(a.operator)
	if err != nil {
		return "", fmt.Errorf("sign the account: %w", err)
	}
	return text, nil
}

// issue signs a user of a role. The tags carry what an enrolment token is for.
func (a *Authority) issue(role, name, publicKey string, ttl time.Duration, tags ...string) (text, id string, err error) {
	key, ok := a.roles[role]
	if !ok {
		return "", "", fmt.Errorf("unknown role %q", role)
	}
	accountPub, err := a.account.PublicKey()
	if err != nil {
		return "", "", err
	}
	claims := jwt.NewUserClaims(publicKey)
	claims.Name, claims.IssuerAccount = name, accountPub
	claims.Expires = time.Now().Add(ttl).Unix()
	claims.SetScoped(true)
	claims.Tags = tags
	if text, err = claims.Encode(key); err != nil {
		return "", "", fmt.Errorf("sign identity %s/%s: %w", role, name, err)
	}
	// Encode computes the ID from the content.
	signed, err := jwt.DecodeUserClaims(text)
	if err != nil {
		return "", "", err
	}
	return text, signed.ID, nil
}

// Identity makes a key and signs an identity for it. It is for processes that share the
// controller's folder; others enrol, so that their key never travels.
func (a *Authority) Identity(role, name string) (bus.Identity, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return bus.Identity{}, fmt.Errorf("make a key: %w", err)
	}
	pub, err := pair.PublicKey()
	if err != nil {
		return bus.Identity{}, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return bus.Identity{}, err
	}
	text, _, err := a.issue(role, name, pub, identityTTL)
	if err != nil {
		return bus.Identity{}, err
	}
	return bus.Identity{Role: role, Name: name, JWT: text, Seed: string(seed)}, nil
}

// Token makes a one-time token for one role and name, good for ttl (at most [MaxTokenTTL]), and its id.
func (a *Authority) Token(role, name string, ttl time.Duration) (text, id string, err error) {
	if err := protocol.CheckName(name); err != nil {
		return "", "", err
	}
	if role != protocol.RoleAgent && role != protocol.RoleReplicaServer {
		return "", "", fmt.Errorf("role %q cannot enrol", role)
	}
	if ttl <= 0 || ttl > MaxTokenTTL {
		return "", "", hint.Wrap(fmt.Errorf("token lifetime %s", ttl), "choose one of up to "+MaxTokenTTL.String())
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("make a key: %w", err)
	}
	pub, err := pair.PublicKey()
	if err != nil {
		return "", "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", "", err
	}
	signed, id, err := a.issue(bus.RoleEnrol, name, pub, ttl, "role:"+role)
	if err != nil {
		return "", "", err
	}
	text, err = bus.Token{JWT: signed, Seed: string(seed)}.Encode()
	return text, id, err
}

// Enrol checks a request's token and signs the identity that it asks for. The returned id is the
// token's: the caller must record it as used, once, before it hands the identity out.
func (a *Authority) Enrol(req protocol.EnrolRequest) (signed, id string, err error) {
	claims, err := jwt.DecodeUserClaims(req.Token) // checks the signature against the issuer it names
	if err != nil {
		return "", "", fmt.Errorf("enrolment token: %w", err)
	}
	issuer, err := a.roles[bus.RoleEnrol].PublicKey()
	if err != nil {
		return "", "", err
	}
	if claims.Issuer != issuer {
		return "", "", errors.New("enrolment token: not issued by this controller")
	}
	if claims.Expires <= time.Now().Unix() {
		return "", "", hint.New("enrolment token: expired", "make a new one: rehost server token "+req.Name)
	}
	if claims.Name != req.Name || !claims.Tags.Contains("role:"+req.Role) {
		return "", "", fmt.Errorf("enrolment token: it is for %s, not for %s/%s", claims.Name, req.Role, req.Name)
	}
	if !nkeys.IsValidPublicUserKey(req.PublicKey) {
		return "", "", errors.New("enrolment: the public key is not a user's")
	}
	signed, _, err = a.issue(req.Role, req.Name, req.PublicKey, identityTTL)
	return signed, claims.ID, err
}

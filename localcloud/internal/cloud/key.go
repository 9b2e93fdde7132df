package cloud

import (
	"crypto"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// rsaBits is the length of EC2's RSA keys.
const rsaBits = 2048

// CreateKey makes a key pair of the type rsa or ed25519 and returns its private
// half in PEM, which is kept nowhere.
func (c *Cloud) CreateKey(name, kind string, tags map[string]string) (*state.KeyPair, []byte, error) {
	var private crypto.Signer
	var block *pem.Block
	var fingerprint string
	var err error
	switch kind {
	case "rsa":
		var k *rsa.PrivateKey
		if k, err = rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
			break
		}
		private, block = k, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
		var der []byte
		der, err = x509.MarshalPKCS8PrivateKey(k)
		sum := sha1.Sum(der)
		fingerprint = colons(sum[:])
	case "ed25519":
		var k ed25519.PrivateKey
		if _, k, err = ed25519.GenerateKey(rand.Reader); err != nil {
			break
		}
		private = k
		block, err = ssh.MarshalPrivateKey(k, name)
	default:
		return nil, nil, fault.Invalid("keyType", kind, "Use rsa or ed25519.")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	if fingerprint == "" {
		fingerprint = sha256Print(public)
	}
	k, err := c.addKey(name, public, fingerprint, tags)
	return k, pem.EncodeToMemory(block), err
}

// ImportKey takes a public key in the form of authorized_keys.
func (c *Cloud) ImportKey(name string, material []byte, tags map[string]string) (*state.KeyPair, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey(material)
	if err != nil {
		return nil, fault.New("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
	}
	fingerprint := sha256Print(public)
	if public.Type() == ssh.KeyAlgoRSA {
		der, err := x509.MarshalPKIXPublicKey(public.(ssh.CryptoPublicKey).CryptoPublicKey())
		if err != nil {
			return nil, fault.New("InvalidKey.Format", "The key is not usable: %s", err)
		}
		sum := md5.Sum(der)
		fingerprint = colons(sum[:])
	}
	return c.addKey(name, public, fingerprint, tags)
}

// EC2's fingerprints: SHA-256 of the SSH form, but of RSA keys SHA-1 of the
// private half that it made, or MD5 of the public half that it was given.

func sha256Print(k ssh.PublicKey) string {
	return strings.TrimPrefix(ssh.FingerprintSHA256(k), "SHA256:") + "="
}

func colons(sum []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":") }

func (c *Cloud) addKey(name string, public ssh.PublicKey, fingerprint string, tags map[string]string) (*state.KeyPair, error) {
	kind := map[string]string{ssh.KeyAlgoRSA: "rsa", ssh.KeyAlgoED25519: "ed25519"}[public.Type()]
	if kind == "" {
		return nil, fault.New("InvalidKey.Format", "Keys are of the type rsa or ed25519, not %s", public.Type())
	}
	k := &state.KeyPair{
		ID: state.NewID("key"), Name: name, Type: kind, Public: string(ssh.MarshalAuthorizedKey(public)), Fingerprint: fingerprint, Created: time.Now(),
	}
	err := c.Store.Update(func(st *state.State) error {
		if st.KeyNamed(name) != nil {
			return fault.New("InvalidKeyPair.Duplicate", "The keypair '%s' already exists.", name)
		}
		st.Keys[k.ID] = k
		return setTags(st, k.ID, tags)
	})
	return k, err
}

// DeleteKey forgets a key pair, given by id or name. As in EC2 it is no error
// when there is none. It returns the id, "" when there was none.
func (c *Cloud) DeleteKey(id, name string) (string, error) {
	err := c.Store.Update(func(st *state.State) error {
		if k := st.KeyNamed(name); k != nil && id == "" {
			id = k.ID
		}
		if st.Keys[id] == nil {
			id = ""
		}
		delete(st.Keys, id)
		delete(st.Tags, id)
		return nil
	})
	return id, err
}

package api

import (
	"context"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlKey struct {
	ID          string   `xml:"keyPairId"`
	Name        string   `xml:"keyName"`
	Type        string   `xml:"keyType,omitempty"`
	Fingerprint string   `xml:"keyFingerprint"`
	Material    string   `xml:"keyMaterial,omitempty"`
	Public      string   `xml:"publicKey,omitempty"`
	Created     string   `xml:"createTime,omitempty"`
	Tags        []xmlTag `xml:"tagSet>item"`
}

func createKey(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("key-pair")
	name, kind, tags := p.need("KeyName"), p.str("KeyType"), p.tags("key-pair")
	if kind == "" {
		kind = "rsa"
	}
	if f := p.str("KeyFormat"); f != "" && f != "pem" {
		p.fail("keyFormat", f, "The local cloud has pem only.")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	k, private, err := s.Cloud.CreateKey(name, kind, tags)
	if err != nil {
		return nil, err
	}
	return xmlKey{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, Material: string(private), Tags: tagsXML(s.Cloud.Store.View(), k.ID)}, nil
}

func importKey(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("key-pair")
	name, material, tags := p.need("KeyName"), p.base64("PublicKeyMaterial"), p.tags("key-pair")
	p.need("PublicKeyMaterial")
	if *p.err != nil {
		return nil, *p.err
	}
	k, err := s.Cloud.ImportKey(name, material, tags)
	if err != nil {
		return nil, err
	}
	return xmlKey{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, Tags: tagsXML(s.Cloud.Store.View(), k.ID)}, nil
}

func describeKeys(_ context.Context, _ *Server, st *state.State, p params) (any, error) {
	items := st.Keys
	if names := p.list("KeyName"); len(names) > 0 {
		items = map[string]*state.KeyPair{}
		for _, n := range names {
			k := st.KeyNamed(n)
			if k == nil {
				return nil, fault.New("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", n)
			}
			items[k.ID] = k
		}
	}
	found, _, err := query[state.KeyPair]{
		ids: "KeyPairId", code: "InvalidKeyPair", items: items,
		attributes: func(k *state.KeyPair) attributes {
			return attributes{"key-pair-id": one(k.ID), "key-name": one(k.Name), "fingerprint": one(k.Fingerprint)}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Keys []xmlKey `xml:"keySet>item"`
	}
	for _, k := range found {
		x := xmlKey{ID: k.ID, Name: k.Name, Type: k.Type, Fingerprint: k.Fingerprint, Created: stamp(k.Created), Tags: tagsXML(st, k.ID)}
		if p.boolean("IncludePublicKey") {
			x.Public = k.Public
		}
		out.Keys = append(out.Keys, x)
	}
	return out, nil
}

func deleteKey(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	if !p.has("KeyPairId") {
		p.need("KeyName")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	id, err := s.Cloud.DeleteKey(p.str("KeyPairId"), p.str("KeyName"))
	if err != nil {
		return nil, err
	}
	return struct {
		Return bool   `xml:"return"`
		ID     string `xml:"keyPairId,omitempty"`
	}{true, id}, nil
}

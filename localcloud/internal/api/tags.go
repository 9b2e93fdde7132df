package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/state"
)

// stamp is a time as EC2 writes it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func tagsXML(st *state.State, id string) []xmlTag {
	var out []xmlTag
	for _, k := range slices.Sorted(maps.Keys(st.Tags[id])) {
		out = append(out, xmlTag{k, st.Tags[id][k]})
	}
	return out
}

// digest identifies the parameters of a call that has a client token.
func (p params) digest() string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(p.values)) {
		h.Write([]byte(k + "\x00" + strings.Join(p.values[k], "\x00") + "\x00\x00"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// owned reports whether one of the owners is the local cloud's account.
func (s *Server) owned(owners []string) bool {
	return slices.Contains(owners, "self") || slices.Contains(owners, s.Cloud.Account)
}

func createTags(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.need("ResourceId.1")
	p.need("Tag.1.Key")
	tags := map[string]string{}
	for _, t := range p.structs("Tag") {
		tags[p.need(t+"Key")] = p.str(t + "Value")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.CreateTags(p.list("ResourceId"), tags)
}

func deleteTags(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.need("ResourceId.1")
	tags := map[string]*string{}
	for _, t := range p.structs("Tag") {
		tags[p.need(t+"Key")] = p.optStr(t + "Value")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.DeleteTags(p.list("ResourceId"), tags)
}

// tagged is one tag of one resource.
type tagged struct {
	ID    string `xml:"resourceId"`
	Type  string `xml:"resourceType"`
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func describeTags(_ context.Context, _ *Server, st *state.State, p params) (any, error) {
	items := map[string]*tagged{}
	for id, tags := range st.Tags {
		for k, v := range tags {
			items[id+" "+k] = &tagged{id, cloud.ResourceType(st, id), k, v}
		}
	}
	found, next, err := query[tagged]{
		items: items, most: 1000,
		attributes: func(t *tagged) attributes {
			return attributes{"resource-id": one(t.ID), "resource-type": one(t.Type), "key": one(t.Key), "value": one(t.Value)}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	return struct {
		Tags      []*tagged `xml:"tagSet>item"`
		NextToken string    `xml:"nextToken,omitempty"`
	}{found, next}, nil
}

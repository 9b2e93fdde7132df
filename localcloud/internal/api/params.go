package api

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"

	"rehost/localcloud/internal/fault"
)

// params are the parameters of a call in EC2's flat form: nested names are
// joined by dots, list members are numbered from 1. The first value that
// cannot be read is kept in err, so that handlers check once.
type params struct {
	values url.Values
	err    *error
}

func newParams(v url.Values) params { return params{values: v, err: new(error)} }

func (p params) fail(name, value, why string) {
	if *p.err == nil {
		*p.err = fault.Invalid(name, value, why)
	}
}

func (p params) has(name string) bool { return p.values.Has(name) }

func (p params) str(name string) string { return p.values.Get(name) }

// need is str for a parameter that must be there.
func (p params) need(name string) string {
	v := p.values.Get(name)
	if v == "" && *p.err == nil {
		*p.err = fault.Missing(name)
	}
	return v
}

func (p params) boolean(name string) bool {
	v := p.optBool(name)
	return v != nil && *v
}

func (p params) optBool(name string) *bool {
	if !p.has(name) {
		return nil
	}
	b, err := strconv.ParseBool(p.str(name))
	if err != nil {
		p.fail(name, p.str(name), "It must be true or false.")
	}
	return &b
}

func (p params) number(name string) int64 {
	n := p.optNumber(name)
	if n == nil {
		return 0
	}
	return *n
}

func (p params) optNumber(name string) *int64 {
	if !p.has(name) {
		return nil
	}
	n, err := strconv.ParseInt(p.str(name), 10, 64)
	if err != nil {
		p.fail(name, p.str(name), "It must be an integer.")
	}
	return &n
}

func (p params) optStr(name string) *string {
	if !p.has(name) {
		return nil
	}
	return new(p.str(name))
}

func (p params) base64(name string) []byte {
	raw, err := base64.StdEncoding.DecodeString(p.str(name))
	if err != nil {
		p.fail(name, "...", "It is not base64.")
	}
	return raw
}

// list returns the values name.1, name.2, ...
func (p params) list(name string) []string {
	var out []string
	for i := 1; p.has(fmt.Sprintf("%s.%d", name, i)); i++ {
		out = append(out, p.str(fmt.Sprintf("%s.%d", name, i)))
	}
	return out
}

// structs returns the prefixes name.1., name.2., ... that have any parameter.
func (p params) structs(name string) []string {
	var out []string
	for i := 1; ; i++ {
		prefix := fmt.Sprintf("%s.%d.", name, i)
		if !p.hasPrefix(prefix) {
			return out
		}
		out = append(out, prefix)
	}
}

func (p params) hasPrefix(prefix string) bool {
	for k := range p.values {
		if len(k) > len(prefix) && k[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

// tags returns the tags that the call gives to a kind of resource.
func (p params) tags(resource string) map[string]string {
	out := map[string]string{}
	for _, spec := range p.structs("TagSpecification") {
		if p.need(spec+"ResourceType") != resource {
			continue
		}
		for _, tag := range p.structs(spec + "Tag") {
			out[p.str(tag+"Key")] = p.str(tag + "Value")
		}
	}
	return out
}

// onlyTags refuses tags for kinds of resources that the call does not make.
func (p params) onlyTags(resources ...string) {
	for _, spec := range p.structs("TagSpecification") {
		kind := p.str(spec + "ResourceType")
		known := false
		for _, r := range resources {
			known = known || r == kind
		}
		if !known {
			p.fail("ResourceType", kind, "The call does not create such a resource.")
		}
	}
}

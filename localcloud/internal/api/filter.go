package api

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// attributes are what filters may ask of a thing, by filter name. A thing may
// have several values for one name.
type attributes map[string][]string

func one(value string) []string { return []string{value} }

// query is the common part of all describe calls.
type query[T any] struct {
	// ids is the parameter that names things directly, code the error's for a
	// name that does not exist, such as InvalidVolume.
	ids, code string
	items     map[string]*T
	// attributes of a thing; every thing of a kind has the same names.
	attributes func(*T) attributes
	// most is the upper limit of MaxResults.
	most int64
}

// run returns the things that the request asks for, ordered by id, and the
// token of the next page.
func (q query[T]) run(st *state.State, p params) ([]*T, string, error) {
	ids := p.list(q.ids)
	for _, id := range ids {
		if q.items[id] == nil {
			return nil, "", fault.NotFound(q.code, id)
		}
	}
	filters, err := readFilters(p, q.attributes(new(T)))
	if err != nil {
		return nil, "", err
	}
	var keys []string
	for id, item := range q.items {
		if (len(ids) == 0 || slices.Contains(ids, id)) && match(filters, q.attributes(item), st.Tags[id]) {
			keys = append(keys, id)
		}
	}
	slices.Sort(keys)
	keys, next, err := page(keys, p, len(ids) > 0, q.most)
	if err != nil {
		return nil, "", err
	}
	out := make([]*T, 0, len(keys))
	for _, id := range keys {
		out = append(out, q.items[id])
	}
	return out, next, nil
}

// filter is one condition: the thing has one of the values.
type filter struct {
	name   string
	values []*regexp.Regexp
}

func readFilters(p params, known attributes) ([]filter, error) {
	var out []filter
	for _, prefix := range p.structs("Filter") {
		f := filter{name: p.need(prefix + "Name")}
		if _, ok := known[f.name]; !ok && f.name != "tag-key" && !strings.HasPrefix(f.name, "tag:") {
			return nil, fault.New("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
		for _, v := range p.list(prefix + "Value") {
			f.values = append(f.values, wildcard(v))
		}
		if len(f.values) == 0 {
			return nil, fault.New("InvalidParameterValue", "The filter '%s' has no values", f.name)
		}
		out = append(out, f)
	}
	return out, *p.err
}

// wildcard compiles a filter's value: * is any text, ? any character, a
// backslash takes the next one literally.
func wildcard(value string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	literal := false
	for _, r := range value {
		switch {
		case literal:
			b.WriteString(regexp.QuoteMeta(string(r)))
			literal = false
		case r == '\\':
			literal = true
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return regexp.MustCompile(b.String() + `\z`)
}

func match(filters []filter, has attributes, tags map[string]string) bool {
	for _, f := range filters {
		values := has[f.name]
		if key, ok := strings.CutPrefix(f.name, "tag:"); ok {
			values = nil
			if v, ok := tags[key]; ok {
				values = one(v)
			}
		} else if f.name == "tag-key" {
			values = nil
			for k := range tags {
				values = append(values, k)
			}
		}
		if !slices.ContainsFunc(values, func(v string) bool {
			return slices.ContainsFunc(f.values, func(re *regexp.Regexp) bool { return re.MatchString(v) })
		}) {
			return false
		}
	}
	return true
}

// smallestPage is EC2's lower limit of MaxResults.
const smallestPage = 5

// page cuts a sorted list of keys. The token names the last key of the page
// before, so things that come and go between pages do no harm.
func page(keys []string, p params, byID bool, most int64) (part []string, next string, err error) {
	limit := p.optNumber("MaxResults")
	if *p.err != nil {
		return nil, "", *p.err
	}
	if limit != nil {
		if byID {
			return nil, "", fault.New("InvalidParameterCombination", "The parameter MaxResults cannot be used with ids in the same request")
		}
		if *limit < smallestPage || *limit > most {
			return nil, "", fault.Invalid("MaxResults", fmt.Sprint(*limit), fmt.Sprintf("Expecting %d to %d.", smallestPage, most))
		}
	}
	if token := p.str("NextToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || !strings.HasPrefix(string(raw), "after ") {
			return nil, "", fault.New("InvalidNextToken", "The token '%s' is not valid", token)
		}
		last := strings.TrimPrefix(string(raw), "after ")
		i, found := slices.BinarySearch(keys, last)
		if found {
			i++
		}
		keys = keys[i:]
	}
	if limit != nil && int64(len(keys)) > *limit {
		keys = keys[:*limit]
		next = base64.RawURLEncoding.EncodeToString([]byte("after " + keys[len(keys)-1]))
	}
	return keys, next, nil
}

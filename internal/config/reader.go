package config

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"rehost/protocol"
)

// reader evaluates attributes over values that hold the defaults, and collects what
// is wrong. An absent attribute (nil) leaves the default.
type reader struct {
	scope *scope
	diags hcl.Diagnostics
	whole hcl.Range // of a daemon's file: where something that is missing at its top level would stand
}

func (r *reader) fail(subject hcl.Range, summary, format string, args ...any) {
	r.diags = append(r.diags, problem(subject, summary, format, args...))
}

// value evaluates an attribute. ok is false when it is absent, null or wrong.
func (r *reader) value(a *hcl.Attribute) (v cty.Value, ok bool) {
	if a == nil {
		return cty.NilVal, false
	}
	if diags := r.scope.check(a.Expr.Variables()); diags.HasErrors() {
		r.diags = append(r.diags, diags...)
		return cty.NilVal, false
	}
	v, diags := a.Expr.Value(r.scope.context())
	r.diags = append(r.diags, diags...)
	if diags.HasErrors() || v.IsNull() || !v.IsWhollyKnown() {
		return cty.NilVal, false
	}
	v, _ = v.UnmarkDeep()
	return v, true
}

// need refuses a block without an attribute that has no default. at is the block's head; a
// block that is itself missing (no range) was told of before.
func (r *reader) need(a *hcl.Attribute, at hcl.Range, name, example string) {
	if a == nil && at.Filename != "" {
		r.fail(at, "Missing "+name, "%s is required here. Write for example %s = %s.", name, name, example)
	}
}

// text reads a string.
func (r *reader) text(a *hcl.Attribute, to *string) bool {
	v, ok := r.value(a)
	if !ok {
		return false
	}
	if v.Type() != cty.String {
		r.fail(a.Expr.Range(), "Not a text", "%s is a text. Write it in quotes: %s = %q.", a.Name, a.Name, sample(*to))
		return false
	}
	*to = v.AsString()
	return true
}

func sample(s string) string {
	if s == "" {
		return "..."
	}
	return s
}

// oneOf reads a string that must be one of known.
func (r *reader) oneOf(a *hcl.Attribute, to *string, known ...string) {
	var got string
	if !r.text(a, &got) {
		return
	}
	if !slices.Contains(known, got) {
		if n := nearest(got, known); n != "" {
			r.fail(a.Expr.Range(), "Unknown value", "%q is not a value of %s. Did you mean %q?", got, a.Name, n)
			return
		}
		r.fail(a.Expr.Range(), "Unknown value", "%q is not a value of %s. Write one of: %s.", got, a.Name, quoted(known))
		return
	}
	*to = got
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(q, ", ")
}

// path reads a path from the root: a daemon's working folder is nobody's business.
func (r *reader) path(a *hcl.Attribute, to *string) {
	var got string
	if !r.text(a, &got) {
		return
	}
	if got == "" || !filepath.IsAbs(got) {
		r.fail(a.Expr.Range(), "Not an absolute path", "%s is a path from the root. Write it with a leading slash, such as %q.",
			a.Name, filepath.Join("/", sample(got)))
		return
	}
	*to = got
}

// address reads "host:port".
func (r *reader) address(a *hcl.Attribute, to *string) {
	var got string
	if !r.text(a, &got) {
		return
	}
	if _, port, err := net.SplitHostPort(got); err != nil || port == "" {
		r.fail(a.Expr.Range(), "Not an address", "%q is not host:port. Write for example %q.", got, "127.0.0.1:4222")
		return
	}
	*to = got
}

// duration reads a duration of at least low and at most high.
func (r *reader) duration(a *hcl.Attribute, to *time.Duration, low, high time.Duration) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		r.fail(a.Expr.Range(), "Invalid duration", "%s is a duration: a number and a unit in quotes. Write for example %q.", a.Name, FormatDuration(*to))
		return
	}
	d, err := time.ParseDuration(v.AsString())
	switch {
	case err != nil:
		r.fail(a.Expr.Range(), "Invalid duration", "%q is not a duration. Write a number and a unit (ms, s, m, h), such as %q.",
			v.AsString(), durationGuess(v.AsString()))
	case d < low || d > high:
		r.fail(a.Expr.Range(), "Duration out of range", "%s is %s to %s. Write for example %q.",
			a.Name, FormatDuration(low), FormatDuration(high), FormatDuration(*to))
	default:
		*to = d
	}
}

// size reads a number of bytes of at least low and at most high.
func (r *reader) size(a *hcl.Attribute, to *int64, low, high int64) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		r.fail(a.Expr.Range(), "Invalid size", "%s is a size: a number and a unit in quotes. Write for example %q.", a.Name, FormatSize(*to))
		return
	}
	n, err := ParseSize(v.AsString())
	switch {
	case err != nil:
		r.fail(a.Expr.Range(), "Invalid size", "%s. Write a number and a unit (B, KiB, MiB, GiB, TiB), such as %q.", err, sizeGuess(v.AsString()))
	case n < low || n > high:
		r.fail(a.Expr.Range(), "Size out of range", "%s is %s to %s. Write for example %q.", a.Name, FormatSize(low), FormatSize(high), FormatSize(*to))
	default:
		*to = n
	}
}

// integer reads a whole number of at least low and at most high.
func (r *reader) integer(a *hcl.Attribute, to *int, low, high int) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	if n, fine := wholeNumber(v); fine && n >= low && n <= high {
		*to = n
		return
	}
	r.fail(a.Expr.Range(), "Invalid number", "%s is a whole number from %d to %d, without quotes.", a.Name, low, high)
}

// flag reads true or false.
func (r *reader) flag(a *hcl.Attribute, to *bool) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	if v.Type() != cty.Bool {
		r.fail(a.Expr.Range(), "Not true or false", "%s is true or false, without quotes.", a.Name)
		return
	}
	*to = v.True()
}

func wholeNumber(v cty.Value) (int, bool) {
	var n int
	if v.Type() != cty.Number {
		return 0, false
	}
	err := gocty.FromCtyValue(v, &n)
	return n, err == nil
}

// items evaluates a list; ok is false when it is absent or wrong.
func (r *reader) items(a *hcl.Attribute, of string) ([]cty.Value, bool) {
	v, ok := r.value(a)
	if !ok {
		return nil, false
	}
	t := v.Type()
	if !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		r.fail(a.Expr.Range(), "Not a list", "%s is a list of %s. Write it in brackets: %s = [...].", a.Name, of, a.Name)
		return nil, false
	}
	return v.AsValueSlice(), true
}

// texts reads a list of strings.
func (r *reader) texts(a *hcl.Attribute, to *[]string) bool {
	vs, ok := r.items(a, "texts")
	if !ok {
		return false
	}
	got := make([]string, 0, len(vs))
	for _, v := range vs {
		if v.Type() != cty.String || v.IsNull() {
			r.fail(a.Expr.Range(), "Not a list of texts", "Each item of %s is a text in quotes.", a.Name)
			return false
		}
		got = append(got, v.AsString())
	}
	*to = got
	return true
}

// ports reads a list of TCP ports.
func (r *reader) ports(a *hcl.Attribute, to *[]int) {
	vs, ok := r.items(a, "port numbers")
	if !ok {
		return
	}
	got := make([]int, 0, len(vs))
	for _, v := range vs {
		n, fine := wholeNumber(v)
		if !fine || n < 1 || n > maxPort {
			r.fail(a.Expr.Range(), "Invalid port", "Each item of %s is a port number from 1 to %d, without quotes.", a.Name, maxPort)
			return
		}
		got = append(got, n)
	}
	*to = got
}

// tags reads a map of strings.
func (r *reader) tags(a *hcl.Attribute, to *map[string]string) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		r.fail(a.Expr.Range(), "Not a map", "%s is a map of texts. Write for example %s = { team = %q }.", a.Name, a.Name, "shop")
		return
	}
	got := map[string]string{}
	for k, item := range v.AsValueMap() {
		if item.IsNull() || item.Type() != cty.String {
			r.fail(a.Expr.Range(), "Not a map of texts", "The value of %q in %s is a text in quotes.", k, a.Name)
			continue
		}
		got[k] = item.AsString()
	}
	*to = got
}

// name checks the label of a block.
func (r *reader) name(name string, at hcl.Range) {
	if protocol.CheckName(name) != nil {
		r.fail(at, "Invalid name", "%q cannot be a name: names are 1 to 63 lower-case letters, digits or inner hyphens. Write for example %q.",
			name, plainName(name))
	}
}

// plainName turns any text into a valid name that looks like it.
func plainName(text string) string {
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		default:
			return '-'
		}
	}, strings.ToLower(text))
	plain = strings.Trim(plain[:min(len(plain), 63)], "-")
	if plain == "" {
		return "web-1"
	}
	return plain
}

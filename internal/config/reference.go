package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// ref reads one reference to a block of the given kind.
func (r *reader) ref(a *hcl.Attribute, kind string, to *string) {
	if v, ok := r.value(a); ok {
		if name, fine := r.refValue(a, v, kind); fine {
			*to = name
		}
	}
}

// refs reads a list of references to blocks of the given kind.
func (r *reader) refs(a *hcl.Attribute, kind string, to *[]string) {
	v, ok := r.value(a)
	if !ok {
		return
	}
	t := v.Type()
	if !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		r.fail(a.Expr.Range(), "Not a list", "%s is a list of references. Write it in brackets: %s = [%s.NAME].", a.Name, a.Name, kind)
		return
	}
	got := []string{}
	for _, item := range v.AsValueSlice() {
		name, fine := r.refValue(a, item, kind)
		switch {
		case !fine:
			return
		case slices.Contains(got, name):
			r.fail(a.Expr.Range(), "Named twice", "%s.%s is twice in %s. Remove one of them.", kind, name, a.Name)
			return
		}
		got = append(got, name)
	}
	*to = got
}

func (r *reader) refValue(a *hcl.Attribute, v cty.Value, kind string) (string, bool) {
	switch {
	case v.IsNull():
		r.fail(a.Expr.Range(), "Not a reference", "%s names a %s block, not null.", a.Name, kind)
	case v.Type() == cty.String:
		// A name in quotes is what people write first; names from a CSV come this way too.
		return r.nameValue(a, v.AsString(), kind)
	case !v.Type().Equals(referenceType):
		r.fail(a.Expr.Range(), "Not a reference", "%s names %s blocks. Write %s.NAME.", a.Name, kind, kind)
	default:
		ref, ok := v.EncapsulatedValue().(*reference)
		if ok && ref.kind == kind {
			return ref.name, true
		}
		if ok {
			r.fail(a.Expr.Range(), "Wrong kind of block", "%s names %s blocks, and %s.%s is a %s block. %s",
				a.Name, kind, ref.kind, ref.name, ref.kind, didYouMean(ref.name, kind+".", r.scope.names[kind]))
		}
	}
	return "", false
}

// nameValue takes a text for a reference: it must be the name of a declared block.
func (r *reader) nameValue(a *hcl.Attribute, name, kind string) (string, bool) {
	if slices.Contains(r.scope.names[kind], name) {
		return name, true
	}
	r.fail(a.Expr.Range(), "Unknown "+kind, "There is no %s %q. %s", kind, name, didYouMean(name, kind+".", r.scope.names[kind]))
	return "", false
}

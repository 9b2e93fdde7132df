package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// kinds are the blocks that can be referred to, such as launch.web.
var kinds = []string{"replication", "launch", "server", "application", "wave", "check", "action"}

// reference is what launch.web evaluates to. It is no text, so that a reference to the
// wrong kind of block is noticed.
type reference struct{ kind, name string }

var referenceType = cty.Capsule("reference", reflect.TypeFor[reference]())

// scope is what an expression can name.
type scope struct {
	functions map[string]function.Function
	variables map[string]cty.Value
	locals    map[string]cty.Value
	names     map[string][]string // of the declared blocks, by kind
	cached    *hcl.EvalContext
}

func newScope(folder string) *scope {
	return &scope{
		functions: functions(folder), variables: map[string]cty.Value{},
		locals: map[string]cty.Value{}, names: map[string][]string{},
	}
}

// declare makes a block known. It must not be called after the first evaluation that needs it.
func (s *scope) declare(kind, name string) {
	s.names[kind] = append(s.names[kind], name)
	s.cached = nil
}

func (s *scope) context() *hcl.EvalContext {
	if s.cached != nil {
		return s.cached
	}
	values := map[string]cty.Value{"var": cty.ObjectVal(s.variables), "local": cty.ObjectVal(s.locals)}
	for kind, names := range s.names {
		refs := map[string]cty.Value{}
		for _, name := range names {
			refs[name] = cty.CapsuleVal(referenceType, &reference{kind: kind, name: name})
		}
		values[kind] = cty.ObjectVal(refs)
	}
	s.cached = &hcl.EvalContext{Variables: values, Functions: s.functions}
	return s.cached
}

// check says which names do not exist, with the nearest that do.
func (s *scope) check(traversals []hcl.Traversal) (diags hcl.Diagnostics) {
	for _, t := range traversals {
		if d := s.checkOne(t); d != nil {
			diags = append(diags, d)
		}
	}
	return diags
}

func (s *scope) checkOne(t hcl.Traversal) *hcl.Diagnostic {
	root := t.RootName()
	known, kind := s.namesUnder(root)
	if kind == "" {
		return problem(t.SourceRange(), "Unknown name", "There is nothing called %q here: a text stands in quotes, and a reference starts with the kind "+
			"of a block, as in launch.web. %s", root, didYouMean(root, "", append(slices.Clone(kinds), "var", "local")))
	}
	if len(t) < 2 {
		return nil
	}
	name, ok := stepName(t[1])
	if !ok || slices.Contains(known, name) {
		return nil
	}
	if len(known) == 0 {
		return problem(t.SourceRange(), "Unknown "+kind, "There is no %s %q, and none at all. Declare it: %s.", kind, name, declaration(root, name))
	}
	return problem(t.SourceRange(), "Unknown "+kind, "There is no %s %q. %s", kind, name, didYouMean(name, root+".", known))
}

func declaration(root, name string) string {
	switch root {
	case "local":
		return fmt.Sprintf("locals { %s = ... }", name)
	case "var":
		return fmt.Sprintf("variable %q {}", name)
	default:
		return fmt.Sprintf("%s %q {}", root, name)
	}
}

func (s *scope) namesUnder(root string) (known []string, kind string) {
	switch {
	case root == "var":
		return slices.Collect(maps.Keys(s.variables)), "variable"
	case root == "local":
		return slices.Collect(maps.Keys(s.locals)), "local"
	case slices.Contains(kinds, root):
		return s.names[root], root
	}
	return nil, ""
}

func stepName(step hcl.Traverser) (string, bool) {
	switch step := step.(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

// variableBlock declares a variable, which the caller may set.
type variableBlock struct {
	Name        string         `hcl:"name,label"`
	Default     *hcl.Attribute `hcl:"default,optional"`
	Description *hcl.Attribute `hcl:"description,optional"`
	At          hcl.Range      `hcl:",def_range"`
}

// given reads files of values for variables. Of a name in several files the last counts.
func (r *reader) given(parser *hclparse.Parser, files []string) map[string]*hcl.Attribute {
	all := map[string]*hcl.Attribute{}
	for _, name := range files {
		file, diags := parser.ParseHCLFile(name)
		r.diags = append(r.diags, diags...)
		if file == nil {
			continue
		}
		attrs, diags := file.Body.JustAttributes()
		r.diags = append(r.diags, diags...)
		maps.Copy(all, attrs)
	}
	return all
}

// setVariables fills the variables: from the caller's texts, else from files, else from their defaults.
func (s *scope) setVariables(blocks []variableBlock, given map[string]string, files map[string]*hcl.Attribute) (diags hcl.Diagnostics) {
	for _, b := range blocks {
		if _, twice := s.variables[b.Name]; twice {
			diags = append(diags, problem(b.At, "Duplicate variable", "The variable %q is declared twice. Remove one of them.", b.Name))
			continue
		}
		value := cty.DynamicVal
		if b.Default != nil {
			v, more := b.Default.Expr.Value(&hcl.EvalContext{Functions: s.functions})
			diags = append(diags, more...)
			if !more.HasErrors() {
				value = v
			}
		}
		text, set := given[b.Name]
		switch {
		case set:
			v, err := parseVariable(text, value.Type())
			if err != nil {
				diags = append(diags, problem(b.At, "Invalid value of a variable", "%q is not a value of variable %q: %s.", text, b.Name, err))
			}
			value = v
		case files[b.Name] != nil:
			v, more := fromFile(files[b.Name], value.Type())
			diags = append(diags, more...)
			value = v
		case b.Default == nil:
			diags = append(diags, problem(b.At, "No value for a variable", "The variable %q has no default. Set it with --var %s=VALUE.", b.Name, b.Name))
		}
		s.variables[b.Name] = value
	}
	known := slices.Collect(maps.Keys(s.variables))
	for name, a := range files {
		if !slices.Contains(known, name) {
			diags = append(diags, problem(a.NameRange, "Unknown variable", "No variable %q is declared. %s", name, didYouMean(name, "", known)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := s.variables[name]; !ok {
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Unknown variable",
				Detail: fmt.Sprintf("No variable %q is declared, but it was set with --var. %s", name, didYouMean(name, "", known)),
			})
		}
	}
	return diags
}

// fromFile evaluates a value in a file of values, which has the default's type.
func fromFile(a *hcl.Attribute, want cty.Type) (cty.Value, hcl.Diagnostics) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if !want.IsPrimitiveType() {
		return v, nil
	}
	v, err := convert.Convert(v, want)
	if err != nil {
		return cty.DynamicVal, hcl.Diagnostics{problem(a.Expr.Range(), "Invalid value of a variable", "Variable %q is a %s, as its default is.", a.Name, want.FriendlyName())}
	}
	return v, nil
}

// parseVariable reads a value from a command line: as it is where a text or a number is
// expected, as an expression where a list or a map is.
func parseVariable(text string, want cty.Type) (cty.Value, error) {
	if want == cty.DynamicPseudoType || want.IsPrimitiveType() {
		if want == cty.DynamicPseudoType {
			want = cty.String
		}
		v, err := convert.Convert(cty.StringVal(text), want)
		if err != nil {
			return cty.DynamicVal, fmt.Errorf("want a %s", want.FriendlyName())
		}
		return v, nil
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "--var", hcl.InitialPos)
	if diags.HasErrors() {
		return cty.DynamicVal, fmt.Errorf("want an expression such as [\"a\", \"b\"]")
	}
	v, diags := expr.Value(nil)
	if diags.HasErrors() {
		return cty.DynamicVal, fmt.Errorf("%s", diags[0].Detail)
	}
	return v, nil
}

// setLocals evaluates the locals in the order in which they need each other.
func (s *scope) setLocals(attrs []*hcl.Attribute) (diags hcl.Diagnostics) {
	pending := map[string]*hcl.Attribute{}
	for _, a := range attrs {
		if _, twice := pending[a.Name]; twice {
			diags = append(diags, problem(a.NameRange, "Duplicate local", "The local %q is defined twice. Remove one of them.", a.Name))
			continue
		}
		pending[a.Name] = a
	}
	all := maps.Clone(pending)
	for len(pending) > 0 {
		before := len(pending)
		for _, name := range slices.Sorted(maps.Keys(pending)) {
			a := pending[name]
			if waits(a.Expr.Variables(), pending) {
				continue
			}
			s.locals[name] = s.local(a, all, &diags)
			delete(pending, name)
		}
		if len(pending) == before {
			for name, a := range pending {
				diags = append(diags, problem(a.NameRange, "Locals refer to each other", "local.%s needs its own value. Break the circle.", name))
				s.locals[name] = cty.DynamicVal
			}
			break
		}
	}
	return diags
}

func waits(traversals []hcl.Traversal, pending map[string]*hcl.Attribute) bool {
	for _, t := range traversals {
		if t.RootName() != "local" || len(t) < 2 {
			continue
		}
		if name, ok := stepName(t[1]); ok && pending[name] != nil {
			return true
		}
	}
	return false
}

func (s *scope) local(a *hcl.Attribute, all map[string]*hcl.Attribute, diags *hcl.Diagnostics) cty.Value {
	for _, t := range a.Expr.Variables() {
		var d *hcl.Diagnostic
		switch root := t.RootName(); {
		case slices.Contains(kinds, root):
			d = problem(t.SourceRange(), "No references in locals", "Locals are known before the blocks are. Use %s.NAME in a block instead.", root)
		case root == "local" && len(t) > 1:
			if name, ok := stepName(t[1]); ok && all[name] == nil {
				d = problem(t.SourceRange(), "Unknown local", "There is no local %q. %s", name, didYouMean(name, "local.", slices.Collect(maps.Keys(all))))
			}
		default:
			d = s.checkOne(t)
		}
		if d != nil {
			*diags = append(*diags, d)
			return cty.DynamicVal
		}
	}
	v, more := a.Expr.Value(&hcl.EvalContext{
		Functions: s.functions,
		Variables: map[string]cty.Value{"var": cty.ObjectVal(s.variables), "local": cty.ObjectVal(s.locals)},
	})
	*diags = append(*diags, more...)
	if more.HasErrors() {
		return cty.DynamicVal
	}
	return v
}

package protocol

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// TestJobEventsAreListed compares the list with the constants, so that whoever adds one is told.
func TestJobEventsAreListed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "state.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []JobEventName
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "JobEventName" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, JobEventName(text))
		}
		return true
	})
	if len(declared) == 0 || !slices.Equal(declared, JobEvents) {
		t.Errorf("declared are %v, listed are %v", declared, JobEvents)
	}
}

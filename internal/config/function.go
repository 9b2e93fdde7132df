package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// maxFile bounds what file() reads: an inventory of 100,000 servers is far below it.
const maxFile = 64 << 20

// functions are what expressions may call, named as in Terraform. folder is where relative paths of files start.
func functions(folder string) map[string]function.Function {
	known := map[string]function.Function{
		"abs":             stdlib.AbsoluteFunc,
		"can":             tryfunc.CanFunc,
		"ceil":            stdlib.CeilFunc,
		"chomp":           stdlib.ChompFunc,
		"chunklist":       stdlib.ChunklistFunc,
		"coalescelist":    stdlib.CoalesceListFunc,
		"element":         stdlib.ElementFunc,
		"floor":           stdlib.FloorFunc,
		"indent":          stdlib.IndentFunc,
		"index":           stdlib.IndexFunc,
		"jsonencode":      stdlib.JSONEncodeFunc,
		"parseint":        stdlib.ParseIntFunc,
		"regexall":        stdlib.RegexAllFunc,
		"setintersection": stdlib.SetIntersectionFunc,
		"setproduct":      stdlib.SetProductFunc,
		"setsubtract":     stdlib.SetSubtractFunc,
		"setunion":        stdlib.SetUnionFunc,
		"title":           stdlib.TitleFunc,
		"tobool":          stdlib.MakeToFunc(cty.Bool),
		"tolist":          stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap":           stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"toset":           stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"try":             tryfunc.TryFunc,
		"coalesce":        stdlib.CoalesceFunc,
		"compact":         stdlib.CompactFunc,
		"concat":          stdlib.ConcatFunc,
		"contains":        stdlib.ContainsFunc,
		"csvdecode":       stdlib.CSVDecodeFunc,
		"distinct":        stdlib.DistinctFunc,
		"file":            fileFunction(folder),
		"flatten":         stdlib.FlattenFunc,
		"format":          stdlib.FormatFunc,
		"formatlist":      stdlib.FormatListFunc,
		"join":            stdlib.JoinFunc,
		"jsondecode":      stdlib.JSONDecodeFunc,
		"keys":            stdlib.KeysFunc,
		"length":          stdlib.LengthFunc,
		"lookup":          stdlib.LookupFunc,
		"lower":           stdlib.LowerFunc,
		"max":             stdlib.MaxFunc,
		"merge":           stdlib.MergeFunc,
		"min":             stdlib.MinFunc,
		"range":           stdlib.RangeFunc,
		"regex":           stdlib.RegexFunc,
		"replace":         stdlib.ReplaceFunc,
		"reverse":         stdlib.ReverseListFunc,
		"slice":           stdlib.SliceFunc,
		"sort":            stdlib.SortFunc,
		"split":           stdlib.SplitFunc,
		"substr":          stdlib.SubstrFunc,
		"tonumber":        stdlib.MakeToFunc(cty.Number),
		"tostring":        stdlib.MakeToFunc(cty.String),
		"trim":            stdlib.TrimFunc,
		"trimprefix":      stdlib.TrimPrefixFunc,
		"trimspace":       stdlib.TrimSpaceFunc,
		"trimsuffix":      stdlib.TrimSuffixFunc,
		"upper":           stdlib.UpperFunc,
		"values":          stdlib.ValuesFunc,
		"zipmap":          stdlib.ZipmapFunc,
	}
	known["templatefile"] = templateFunction(folder, maps.Clone(known))
	return known
}

func fileFunction(folder string) function.Function {
	return function.New(&function.Spec{
		Description: "The text of a file, which is UTF-8; a relative path starts at the configuration's folder.",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			_, text, err := ReadText(folder, args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(text), nil
		},
	})
}

// templateFunction renders a file with values of its own and with the functions of this
// language except itself, as Terraform does.
func templateFunction(folder string, known map[string]function.Function) function.Function {
	return function.New(&function.Spec{
		Description: "The text of a template file, with ${...} replaced by the given values.",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if t := args[1].Type(); !t.IsObjectType() && !t.IsMapType() {
				return cty.NilVal, function.NewArgErrorf(1, "the values are a map, such as { name = \"web-1\" }")
			}
			path, text, err := ReadText(folder, args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			expr, diags := hclsyntax.ParseTemplate([]byte(text), path, hcl.InitialPos)
			if diags.HasErrors() {
				return cty.NilVal, function.NewArgError(0, diags)
			}
			v, diags := expr.Value(&hcl.EvalContext{Variables: args[1].AsValueMap(), Functions: known})
			if diags.HasErrors() {
				return cty.NilVal, function.NewArgError(0, diags)
			}
			return convert.Convert(v, cty.String)
		},
	})
}

// ReadText reads a file that must be UTF-8, and leaves out the byte order mark with which spreadsheets begin one.
func ReadText(folder, path string) (name, text string, err error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return path, "", fmt.Errorf("no file %s; check the path, which starts at %s", path, folder)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return path, "", fmt.Errorf("%s is not a regular file of at most %s", path, FormatSize(maxFile))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return path, "", fmt.Errorf("read %s: %w", path, err)
	}
	if how := notUTF8(raw); how != "" {
		return path, "", fmt.Errorf("%s is %s", path, how)
	}
	return path, string(bytes.TrimPrefix(raw, byteOrderMark)), nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// notUTF8 says what a text is that is not UTF-8, and how to convert it; it is empty for UTF-8.
func notUTF8(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return "UTF-16, not UTF-8; convert it with iconv -f utf-16 -t utf-8"
	case bytes.IndexByte(text, 0) >= 0:
		return "not a text in UTF-8: it has zero bytes; convert UTF-16 with iconv -f utf-16le -t utf-8"
	case !utf8.Valid(text):
		return "not UTF-8; if it is Latin-1, convert it with iconv -f latin1 -t utf-8"
	}
	return ""
}

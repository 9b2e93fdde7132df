package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"rehost/internal/hint"
	"rehost/protocol"
)

// maxSource bounds the HCL of a configuration: 10,000 servers one by one are a quarter of it.
const maxSource = 16 << 20

// preamble is what must be known before the other blocks can be expanded.
type preamble struct {
	Variables []variableBlock `hcl:"variable,block"`
	Locals    []struct {
		Attrs hcl.Attributes `hcl:",remain"`
	} `hcl:"locals,block"`
	Rest hcl.Body `hcl:",remain"`
}

// fleetFile is the rest.
type fleetFile struct {
	Replications []replicationBlock `hcl:"replication,block"`
	Launches     []launchBlock      `hcl:"launch,block"`
	Servers      []serverBlock      `hcl:"server,block"`
	Applications []applicationBlock `hcl:"application,block"`
	Waves        []waveBlock        `hcl:"wave,block"`
	Checks       []checkBlock       `hcl:"check,block"`
	Actions      []actionBlock      `hcl:"action,block"`
}

// LoadFleet reads a fleet's configuration: path is a file, or a folder whose *.hcl files
// together are one configuration. variables are the caller's values for variable
// blocks, and come before those in values: HCL files of name = value lines, the last of which
// counts. Everything in the result has its defaults filled in. What is wrong with the
// files comes back as [*Errors], all of it.
func LoadFleet(path string, variables map[string]string, values ...string) (protocol.Fleet, error) {
	names, folder, err := fleetFiles(path)
	if err != nil {
		return protocol.Fleet{}, err
	}
	if err := fits(append(slices.Clone(names), values...)); err != nil {
		return protocol.Fleet{}, err
	}
	parser := hclparse.NewParser()
	r := &reader{scope: newScope(folder)}
	given := r.given(parser, values)
	var files []*hcl.File
	for _, name := range names {
		file, diags := parser.ParseHCLFile(name)
		r.diags = append(r.diags, diags...)
		if file != nil {
			files = append(files, file)
		}
	}
	// What a file with a syntax error means cannot be known; to go on would only add noise.
	if err := asError(r.diags, parser.Files()); err != nil {
		return protocol.Fleet{}, hint.Wrap(err, "correct the lines above; `rehost validate` checks them without a controller")
	}
	fleet := r.fleet(hcl.MergeFiles(files), variables, given)
	if err := asError(r.diags, parser.Files()); err != nil {
		return protocol.Fleet{}, hint.Wrap(err, "correct the lines above; `rehost validate` checks them without a controller")
	}
	return fleet, nil
}

// fleetFiles lists the files of a configuration in the order of their names.
func fleetFiles(path string) (names []string, folder string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", hint.Wrap(fmt.Errorf("read configuration: %w", err), "name a folder with .hcl files, such as configs/small")
	}
	if !info.IsDir() {
		return []string{path}, filepath.Dir(path), nil
	}
	names, err = filepath.Glob(filepath.Join(path, "*.hcl"))
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", path, err)
	}
	if len(names) == 0 {
		return nil, "", hint.New(fmt.Sprintf("read configuration: no .hcl file in %s", path), "name a folder with .hcl files, such as configs/small")
	}
	return names, path, nil
}

// fits refuses files that are no text, or too much of it: a parsed file takes some fifty times
// its size in memory, and nobody writes this much by hand.
func fits(names []string) error {
	var total int64
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return hint.Wrap(fmt.Errorf("read configuration: %w", err), "check the path")
		}
		if total += info.Size(); total > maxSource {
			return hint.New(fmt.Sprintf("read configuration: more than %s of HCL, with %s", FormatSize(maxSource), name),
				"put what repeats into a CSV file, and read it with csvdecode(file(...)) and a dynamic block, as configs/thousand does")
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return hint.Wrap(fmt.Errorf("read configuration: %w", err), "check the path and its permissions")
		}
		if how := notUTF8(text); how != "" {
			what, convert, _ := strings.Cut(how, "; ")
			return hint.New(fmt.Sprintf("read configuration: %s is %s", name, what), convert)
		}
	}
	return nil
}

func (r *reader) fleet(body hcl.Body, variables map[string]string, given map[string]*hcl.Attribute) protocol.Fleet {
	var pre preamble
	r.diags = append(r.diags, gohcl.DecodeBody(body, nil, &pre)...)
	r.diags = append(r.diags, r.scope.setVariables(pre.Variables, variables, given)...)
	var locals []*hcl.Attribute
	for _, l := range pre.Locals {
		for _, a := range l.Attrs {
			locals = append(locals, a)
		}
	}
	slices.SortFunc(locals, func(a, b *hcl.Attribute) int { return a.Range.Start.Byte - b.Range.Start.Byte })
	r.diags = append(r.diags, r.scope.setLocals(locals)...)

	var raw fleetFile
	diags := gohcl.DecodeBody(dynblock.Expand(pre.Rest, r.scope.context()), r.scope.context(), &raw)
	if r.diags.HasErrors() {
		diags = slices.DeleteFunc(diags, followsFromUnknown)
	}
	r.diags = append(r.diags, diags...)
	r.declare(&raw)
	return r.read(&raw)
}

// followsFromUnknown says that d complains of a value which is unknown only because of an error told before.
func followsFromUnknown(d *hcl.Diagnostic) bool {
	if d.Expression == nil || d.EvalContext == nil {
		return false
	}
	v, diags := d.Expression.Value(d.EvalContext)
	return !diags.HasErrors() && !v.IsWhollyKnown()
}

// declare makes the names of all blocks known and finds those that are there twice.
func (r *reader) declare(raw *fleetFile) {
	seen := map[[2]string]hcl.Range{}
	add := func(kind, name string, at hcl.Range) {
		r.name(name, at)
		key := [2]string{kind, name}
		if first, twice := seen[key]; twice {
			r.fail(at, "Duplicate name", "Another %s is called %q, at %s line %d. Rename or remove one of them.", kind, name, first.Filename, first.Start.Line)
			return
		}
		seen[key] = at
		r.scope.declare(kind, name)
	}
	for _, b := range raw.Replications {
		add("replication", b.Name, b.NameAt)
	}
	for _, b := range raw.Launches {
		add("launch", b.Name, b.NameAt)
	}
	for _, b := range raw.Servers {
		add("server", b.Name, b.NameAt)
	}
	for _, b := range raw.Applications {
		add("application", b.Name, b.NameAt)
	}
	for _, b := range raw.Waves {
		add("wave", b.Name, b.NameAt)
	}
	for _, b := range raw.Checks {
		add("check", b.Name, b.NameAt)
	}
	for _, b := range raw.Actions {
		add("action", b.Name, b.NameAt)
	}
}

// block is what all blocks of a fleet have in common: they are read over their defaults.
type block[T any] interface{ read(r *reader) T }

func readAll[B block[T], T any](r *reader, blocks []B) []T {
	out := make([]T, 0, len(blocks))
	for _, b := range blocks {
		out = append(out, b.read(r))
	}
	return out
}

func (r *reader) read(raw *fleetFile) protocol.Fleet {
	fleet := protocol.Fleet{
		Replications: readAll(r, raw.Replications),
		Launches:     r.launches(raw.Launches),
		Servers:      readAll(r, raw.Servers),
		Applications: readAll(r, raw.Applications),
		Waves:        readAll(r, raw.Waves),
		Checks:       readAll(r, raw.Checks),
		Actions:      readAll(r, raw.Actions),
	}
	owner := map[string]string{}
	for i, a := range fleet.Applications {
		r.claim(owner, raw.Applications[i].Servers, "server", "application", a.Name, a.Servers)
	}
	owner = map[string]string{}
	for i, w := range fleet.Waves {
		r.claim(owner, raw.Waves[i].Applications, "application", "wave", w.Name, w.Applications)
	}
	r.order(raw, fleet)
	r.fixedAddresses(raw.Servers, fleet)
	r.shells(raw.Servers, fleet)
	r.firstBoots(raw.Servers, fleet)
	return fleet
}

// claim gives members to an owner and refuses those that have one already: a server
// moves with one application, and an application with one wave.
func (r *reader) claim(owner map[string]string, a *hcl.Attribute, member, kind, name string, members []string) {
	for _, m := range members {
		if other, taken := owner[m]; taken {
			r.fail(a.Expr.Range(), "In two "+kind+"s", "%s.%s is in %s.%s already. Remove it from one of them.", member, m, kind, other)
			continue
		}
		owner[m] = name
	}
}

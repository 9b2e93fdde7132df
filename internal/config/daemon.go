package config

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"rehost/internal/hint"
)

// Bounds that agents and fleets share.
const (
	minWindow = 1 << 20 // one frame
	maxWindow = 8 << 30
	minFreeze = 10 * time.Millisecond
	maxFreeze = 2 * time.Second // the hard cap: a frozen host is worse than a missed point
)

// Log says how a daemon logs.
type Log struct {
	Level  string // trace, debug, info, warn, error
	Format string // json or text
}

// DefaultLog returns a daemon's logging defaults.
func DefaultLog() Log { return Log{Level: "info", Format: "json"} }

type logBlock struct {
	Level  *hcl.Attribute `hcl:"level,optional"`
	Format *hcl.Attribute `hcl:"format,optional"`
}

func (r *reader) log(b *logBlock, to *Log) {
	if b == nil {
		return
	}
	r.oneOf(b.Level, &to.Level, "trace", "debug", "info", "warn", "error")
	r.oneOf(b.Format, &to.Format, "json", "text")
}

// servers reads the URLs of a bus.
func (r *reader) servers(a *hcl.Attribute, to *[]string) {
	var got []string
	if !r.texts(a, &got) {
		return
	}
	for _, url := range got {
		if !strings.HasPrefix(url, "tls://") || len(url) == len("tls://") {
			r.fail(a.Expr.Range(), "Not a bus address", "%q is not the URL of a bus with TLS. Write for example %q.", url, "tls://bus.example.com:4222")
			return
		}
	}
	if len(got) == 0 {
		r.fail(a.Expr.Range(), "No bus address", "%s is empty. Write for example %s = [%q].", a.Name, a.Name, "tls://bus.example.com:4222")
		return
	}
	*to = got
}

// decodeFile reads one daemon's file into raw and lets read turn it into values.
func decodeFile(path string, raw any, read func(*reader)) error {
	parser := hclparse.NewParser()
	if _, err := os.Stat(path); err != nil {
		return hint.Wrap(fmt.Errorf("read configuration: %w", err), "name the file with --config FILE; configs/ has examples")
	}
	next := func(err error) error {
		return hint.Wrap(err, "correct the lines above in "+path+"; the command check, with the same --config, looks at them again")
	}
	file, diags := parser.ParseHCLFile(path)
	if err := next(asError(diags, parser.Files())); err != nil {
		return err
	}
	r := &reader{scope: newScope("."), whole: file.Body.MissingItemRange()}
	r.diags = append(r.diags, gohcl.DecodeBody(file.Body, r.scope.context(), raw)...)
	read(r)
	return next(asError(r.diags, parser.Files()))
}

package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

// maxScript bounds a script of --script, in bytes.
const maxScript = 64 << 10

// readScripts reads the scripts that --script names, each as PHASE=FILE.
func readScripts(named []string, limit time.Duration) ([]protocol.Script, error) {
	if limit < time.Second || limit > time.Hour {
		return nil, usage(hint.New(fmt.Sprintf("--script-timeout %s is too short or too long", limit), "use 1s to 1h"))
	}
	var scripts []protocol.Script
	for _, n := range named {
		phase, path, ok := strings.Cut(n, "=")
		if !ok || !slices.Contains(protocol.ScriptPhases, protocol.ScriptPhase(phase)) {
			return nil, usage(hint.New("--script "+n+" names no phase", "write --script after-conversion=FILE; the others are before-mount and first-boot"))
		}
		content, err := readScript(path)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, protocol.Script{Name: filepath.Base(path), Phase: protocol.ScriptPhase(phase), Content: content, Timeout: limit})
	}
	return scripts, nil
}

func readScript(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("--script: %w", err), "name a file that you can read")
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("--script: %w", err)
	case len(content) > maxScript:
		return "", hint.New(fmt.Sprintf("--script: %s is larger than %d bytes", path, maxScript), "let it be a script, and not what it works with")
	case !bytes.HasPrefix(content, []byte("#!/")):
		return "", hint.New("--script: "+path+" does not say what runs it", "begin it with #!/bin/sh, or another interpreter that is there")
	}
	return string(content), nil
}

// tellActions prints how actions on a target went, with what they said.
func tellActions(p *printer, indent string, runs []protocol.ActionRun) {
	for _, a := range runs {
		p.line("%saction %s: %s", indent, oneLine(a.Name), actionWords(a))
		said(p, indent, a.Output)
	}
}

// actionWords say how an action went.
func actionWords(a protocol.ActionRun) string {
	words := string(a.Outcome)
	switch {
	case a.Outcome == "":
		return "begun at " + utc(a.Began) + ", and no end is recorded"
	case a.Problem != "":
		words += ": " + oneLine(a.Problem)
	default:
		words += fmt.Sprintf(", exit code %d, after %.1f s", a.Code, a.Seconds)
	}
	if a.Outcome != protocol.ScriptSucceeded && !a.MustSucceed {
		words = "warning, as it need not succeed: " + words
	}
	return words
}

// said prints what a program said, line by line.
func said(p *printer, indent, text string) {
	if text == "" {
		return
	}
	for l := range strings.SplitSeq(text, "\n") {
		p.line("%s    %s", indent, oneLine(l))
	}
}

// tellScripts prints how scripts went, with what they said.
func tellScripts(p *printer, indent string, scripts []protocol.ScriptRun) {
	for _, s := range scripts {
		line := fmt.Sprintf("%sscript %s (%s): %s", indent, oneLine(s.Name), s.Phase, s.Outcome)
		if s.Outcome != protocol.ScriptPlanned {
			line += fmt.Sprintf(", exit code %d, after %.1f s", s.Code, s.Seconds)
		}
		p.line("%s", line)
		said(p, indent, s.Output)
	}
}

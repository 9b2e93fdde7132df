package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"rehost/protocol"
)

// Diagram returns docs/lifecycle.md: the edges as a mermaid diagram, and the rules as a table.
func Diagram() string {
	var b strings.Builder
	b.WriteString("# Lifecycle of a server\n\nThe names are those of AWS MGN. This page is made from the table of edges in\n" +
		"`controller/internal/lifecycle`; its test compares them (`go test ./controller/internal/lifecycle -update` writes it).\n\n" +
		"```mermaid\nstateDiagram-v2\n")
	fmt.Fprintf(&b, "    [*] --> %s\n", protocol.NotReady)
	for _, e := range Edges {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", e.From, e.To, e.Reason)
	}
	b.WriteString("```\n\n## What may be done where\n\n" +
		"`rehost server VERB`, or its name in MGN's API. *yes*: allowed; *reason*: only with a reason, which is recorded. Beside the state, each says what else is lacking.\n\n| verb | in MGN |")
	for _, s := range anywhere {
		fmt.Fprintf(&b, " %s |", s)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(anywhere)) + "\n")
	for _, r := range Rules {
		fmt.Fprintf(&b, "| `%s` | %s |", r.Verb, r.MGN)
		for _, s := range anywhere {
			b.WriteString(r.cell(s))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (r Rule) cell(s protocol.Lifecycle) string {
	switch {
	case slices.Contains(r.In, s):
		return " yes |"
	case slices.Contains(r.Forced, s):
		return " reason |"
	}
	return " |"
}

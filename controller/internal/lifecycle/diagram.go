package lifecycle

import (
	"fmt"
	"strings"

	"rehost/protocol"
)

// Diagram returns docs/lifecycle.md: the edges as a mermaid diagram.
func Diagram() string {
	var b strings.Builder
	b.WriteString("# Lifecycle of a server\n\nThe names are those of AWS MGN. This page is made from the table of edges in\n" +
		"`controller/internal/lifecycle`; its test compares them (`go test ./controller/internal/lifecycle -update` writes it).\n\n" +
		"```mermaid\nstateDiagram-v2\n")
	fmt.Fprintf(&b, "    [*] --> %s\n", protocol.NotReady)
	for _, e := range Edges {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", e.From, e.To, e.Reason)
	}
	b.WriteString("```\n")
	return b.String()
}

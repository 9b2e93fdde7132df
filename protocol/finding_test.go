package protocol

import (
	"os"
	"strings"
	"testing"
)

func TestEachFindingCodeIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range FindingCodes {
		if !strings.Contains(string(text), "\n| `"+string(code)+"` |") {
			t.Errorf("docs/findings.md has no entry for %q", code)
		}
	}
	if got := strings.Count(string(text), "\n| `"); got != len(FindingCodes) {
		t.Errorf("docs/findings.md has %d entries, there are %d codes", got, len(FindingCodes))
	}
}

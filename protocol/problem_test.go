package protocol

import (
	"os"
	"strings"
	"testing"
)

func TestEachProblemCodeIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range ProblemCodes {
		if !strings.Contains(string(text), "\n| `"+string(code)+"` |") {
			t.Errorf("docs/problems.md has no entry for %q", code)
		}
	}
	if got := strings.Count(string(text), "\n| `"); got != len(ProblemCodes) {
		t.Errorf("docs/problems.md has %d entries, there are %d codes", got, len(ProblemCodes))
	}
}

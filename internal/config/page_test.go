package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestExamplesOfThePageAreValid(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllSubmatch(page, -1)
	if len(examples) < 3 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		path := write(t, "fleet.hcl", string(e[1]))
		if _, err := LoadFleet(path, nil); err != nil {
			t.Errorf("%s\n%s", e[1], diagnostics(t, err))
		}
		if differs, err := FormatFile(path, false); differs || err != nil {
			t.Errorf("not in the usual form (%v):\n%s", err, e[1])
		}
	}
}

func TestThePageNamesEachFunction(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "## Functions")
	words := map[string]bool{}
	for _, w := range regexp.MustCompile(`[a-z]+`).FindAllString(list, -1) {
		words[w] = true
	}
	for name := range functions("") {
		if !words[name] {
			t.Errorf("docs/configuration.md does not name %s", name)
		}
	}
}

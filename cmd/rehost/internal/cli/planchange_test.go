package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func created(name, values string) protocol.PlanChange {
	c := protocol.PlanChange{Action: protocol.PlanCreate, Kind: "server", Name: name, Effects: []string{"full sync as soon as its agent reports"}}
	for field := range strings.SplitSeq(values, "; ") {
		field, value, _ := strings.Cut(field, "=")
		c.Fields = append(c.Fields, protocol.FieldChange{Field: field, After: json.RawMessage(value)})
	}
	return c
}

func page(changes []protocol.PlanChange, all bool) string {
	var p printer
	planChanges(&p, Env{Width: 80}, changes, all)
	return p.b.String()
}

// many are 21 new servers: one more than are shown whole.
func many() []protocol.PlanChange {
	changes := []protocol.PlanChange{created("web-00", `application="shop"; checks=["http"]; fence_max_ns=3600000000000; launch="web"`)}
	for i := range maxWhole {
		changes = append(changes, created(fmt.Sprintf("web-%02d", i+1), `application="shop"; checks=["http"]; fence_max_ns=3600000000000; launch="web"`))
	}
	return changes
}

func TestOfManyNewBlocksTheDifferencesAreShown(t *testing.T) {
	changes := many()
	changes[2] = created("web-02", `application="shop"; disks=["/dev/sda","/dev/sdb","/dev/sdc"]; fence_max_ns=3600000000000; launch="database"`)
	changes[3].Effects = []string{"full sync of web-03: 8.0 GiB on 1 disk"}
	changes = append(changes, protocol.PlanChange{Action: protocol.PlanRemove, Kind: "server", Name: "web-99"})
	want := `  + server web-00
      application: "shop"
      checks: ["http"]
      fence_max: "1h"
      launch: "web"
      effect: full sync as soon as its agent reports
  + server web-01 as web-00
  + server web-02 as web-00, but disks: ["/dev/sda", "/dev/sdb", "/dev/sdc"],
      launch: "database", checks: none
  + server web-03 as web-00
      effect: full sync of web-03: 8.0 GiB on 1 disk
`
	got := page(changes, false)
	if diff := cmp.Diff(want, got[:min(len(want), len(got))]); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(got, "  + server web-20 as web-00\n  - server web-99\n") || !strings.HasSuffix(got, "\nOf more than 20 new ones of a kind, the first is whole; --all shows all so.\n") {
		t.Errorf("got %s", got)
	}
}

func TestFewNewBlocksAreShownWhole(t *testing.T) {
	for name, text := range map[string]string{"as many as are shown whole": page(many()[1:], false), "all of them": page(many(), true)} {
		if strings.Contains(text, " as web-") || strings.Contains(text, "--all") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if got := strings.Count(page(many(), true), `launch: "web"`); got != len(many()) {
		t.Errorf("%d of %d are whole", got, len(many()))
	}
}

func TestAPlansLinesFit80Columns(t *testing.T) {
	var servers []string
	for i := range 300 {
		servers = append(servers, fmt.Sprintf("web-%03d", i))
	}
	list, err := json.Marshal(servers)
	if err != nil {
		t.Fatal(err)
	}
	changes := []protocol.PlanChange{
		{Action: protocol.PlanCreate, Kind: "application", Name: "shop", Fields: []protocol.FieldChange{{Field: "servers", After: list}}},
		{Action: protocol.PlanUpdate, Kind: "application", Name: "mail", Fields: []protocol.FieldChange{{Field: "servers", Before: list, After: json.RawMessage(`["mx-1"]`)}}},
	}
	got := page(changes, false)
	for line := range strings.Lines(got) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if !strings.Contains(got, `"web-299"] -> ["mx-1"]`) || strings.Count(got, `"web-150"`) != 2 {
		t.Errorf("got %s", got)
	}
}

func TestValuesAreShownAsAConfigurationHasThem(t *testing.T) {
	for _, c := range []struct{ field, value, want string }{
		{"bandwidth.windows[0].days", "[1,5,0]", `bandwidth.windows[0].days: ["mon", "fri", "sun"]`},
		{"bandwidth.windows[0].from_ns", "28800000000000", `bandwidth.windows[0].from: "08:00"`},
		{"gates.windows[0].to_ns", "86400000000000", `gates.windows[0].to: "24:00"`},
		{"gates.lag_ns", "30000000000", `gates.lag: "30s"`},
		{"bandwidth.site_bytes", "6250000", `bandwidth.site: "50 Mbit/s"`},
		{"window_bytes", "134217728", `window: "128MiB"`},
		{"ingress_ports", "[22,80]", "ingress_ports: [22, 80]"},
		{"tags.days", `"3"`, `tags.days: "3"`},
		{"test_subnet", `"a\u001bb"`, `test_subnet: "a\u001bb"`},
	} {
		f := protocol.FieldChange{Field: c.field, After: json.RawMessage(c.value)}
		if got := strings.Join(fieldWords(f, true), " "); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

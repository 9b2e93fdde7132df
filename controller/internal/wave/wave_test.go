package wave

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/hint"
	"rehost/protocol"
)

func fleet(waves ...protocol.WaveSettings) protocol.Fleet {
	return protocol.Fleet{
		Applications: []protocol.ApplicationSettings{
			{Name: "shop", Servers: []string{"db-1", "web-1"}}, {Name: "mail", Servers: []string{"mx-1", "web-1"}},
		},
		Waves: waves,
	}
}

func TestOfKeepsTheOrderAndEachServerOnce(t *testing.T) {
	got, err := Of(fleet(protocol.WaveSettings{Name: "one", Applications: []string{"shop", "mail"}}), "one")
	if err != nil {
		t.Fatal(err)
	}
	want := Plan{Of: protocol.Selection{Wave: "one"}, Servers: []string{"db-1", "web-1", "mx-1"}, Concurrency: defaultConcurrency}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOfSaysWhatIsUnknown(t *testing.T) {
	f := fleet(protocol.WaveSettings{Name: "one", Applications: []string{"shop"}}, protocol.WaveSettings{Name: "two", Applications: []string{"crm"}},
		protocol.WaveSettings{Name: "none"})
	for name, want := range map[string]string{"three": "choose one of one, two, none", "two": "add the application block", "none": "name applications"} {
		if _, err := Of(f, name); !strings.HasPrefix(hint.Of(err), want) {
			t.Errorf("%s: got %v with hint %q, want %q", name, err, hint.Of(err), want)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct{ name, waves, want, err string }{
		{"as written", "a b c", "a b c", ""},
		{"after", "a>c b c", "c a b", ""},
		{"diamond", "a>b,c b>d c>d d", "d b c a", ""},
		{"cycle", "a>b b>c c>a", "", "a -> b -> c -> a"},
		{"itself", "a>a", "", "a -> a"},
		{"unknown", "a>x", "", `"x", which is no wave`},
	} {
		var waves []protocol.WaveSettings
		for w := range strings.FieldsSeq(tt.waves) {
			name, after, found := strings.Cut(w, ">")
			ws := protocol.WaveSettings{Name: name}
			if found {
				ws.After = strings.Split(after, ",")
			}
			waves = append(waves, ws)
		}
		got, err := Order(fleet(waves...))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestIndexNamesTheFirstWaveOfEachServer(t *testing.T) {
	f := fleet(protocol.WaveSettings{Name: "none"}, protocol.WaveSettings{Name: "one", Applications: []string{"mail"}}, protocol.WaveSettings{Name: "two", Applications: []string{"shop"}})
	want := map[string]string{"mx-1": "one", "web-1": "one", "db-1": "two"}
	if diff := cmp.Diff(want, Index(f)); diff != "" {
		t.Error(diff)
	}
}

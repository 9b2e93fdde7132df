package config

import (
	"net/url"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// Webhook is who is told of events.
type Webhook struct {
	Name       string
	URL        string
	SecretFile string
	Events     []string // patterns of types; empty: all
}

type webhookBlock struct {
	Name       string         `hcl:"name,label"`
	At         hcl.Range      `hcl:",def_range"`
	URL        *hcl.Attribute `hcl:"url"`
	SecretFile *hcl.Attribute `hcl:"secret_file"`
	Events     *hcl.Attribute `hcl:"events,optional"`
}

func (r *reader) webhooks(blocks []webhookBlock) []Webhook {
	var out []Webhook
	seen := map[string]bool{}
	for _, b := range blocks {
		w := Webhook{Name: b.Name}
		r.name(b.Name, b.At)
		if seen[b.Name] {
			r.fail(b.At, "Two webhooks of one name", "There is another webhook %q. How far each is, is kept under its name: give this one another.", b.Name)
		}
		seen[b.Name] = true
		r.need(b.URL, b.At, "url", `"https://example.com/hook"`)
		if r.text(b.URL, &w.URL) {
			if _, ok := webURL(w.URL); !ok {
				r.fail(b.URL.Expr.Range(), "Not a URL", "%q is no URL of a web server. Write for example %q.", w.URL, "https://example.com/hook")
			}
		}
		r.need(b.SecretFile, b.At, "secret_file", `"/etc/rehost/webhook.secret"`)
		r.path(b.SecretFile, &w.SecretFile)
		if r.texts(b.Events, &w.Events) {
			for _, e := range w.Events {
				if !protocol.CheckEventPattern(e) {
					r.fail(b.Events.Expr.Range(), "Unknown type of event", "%q is no type of event. Write for example \"server.lifecycle\", \"job.job_end\", \"server.*\" or \"job.*\".", e)
				}
			}
		}
		out = append(out, w)
	}
	return out
}

// webURL reads the URL of a web server.
func webURL(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	return u, err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

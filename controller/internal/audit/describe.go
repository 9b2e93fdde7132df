package audit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"rehost/protocol"
)

// Bounds of an entry.
const (
	maxField   = 1 << 10 // bytes of each field of a request
	maxRequest = 8 << 10
	maxReason  = 1 << 10
	maxServers = 500
)

// withheld are fields whose content may be secret: a configuration holds user data and scripts, and a token is one.
var withheld = []string{"fleet", "token", "files"}

// describe tells what a request's text says of itself.
func describe(body []byte) (e protocol.AuditEntry) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		if len(body) > 0 {
			e.Request = digest(body)
		}
		return e
	}
	var why struct{ Reason, Force string }
	_ = json.Unmarshal(body, &why) // of another type: then it says nothing that can be told
	if e.Reason = cut(why.Reason, maxReason); e.Reason == "" {
		e.Reason = cut(why.Force, maxReason)
	}
	e.Servers = names(body)
	for name, value := range fields {
		if slices.Contains(withheld, name) || len(value) > maxField {
			fields[name] = digest(value)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil || len(text) > maxRequest {
		text = digest(body)
	}
	e.Request = text
	return e
}

// digest stands for a text that is not kept.
func digest(text []byte) json.RawMessage {
	return fmt.Appendf(nil, `"%d bytes, sha256 %x"`, len(text), sha256.Sum256(text))
}

// cut shortens a text to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// serversOf lists the servers that a reply names.
func serversOf(reply any) []string {
	text, err := json.Marshal(reply)
	if err != nil {
		return nil
	}
	return names(text)
}

// named are the places where requests and replies name servers.
type named struct {
	Server  string          `json:"server"`
	Servers json.RawMessage `json:"servers"` // names, or things that have one
	Role    string          `json:"role"`
	Name    string          `json:"name"` // of an identity
	Changes []struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"changes"` // of a plan
}

// names lists the servers that a text names, each once.
func names(text []byte) []string {
	var all []named
	if json.Unmarshal(text, &all) != nil {
		all = []named{{}}
		if json.Unmarshal(text, &all[0]) != nil {
			return nil
		}
	}
	var found []string
	for _, n := range all {
		found = append(found, n.Server)
		if n.Role == protocol.RoleAgent {
			found = append(found, n.Name)
		}
		for _, c := range n.Changes {
			if c.Kind == "server" {
				found = append(found, c.Name)
			}
		}
		var plain []string
		var things []struct {
			Server string `json:"server"`
		}
		if json.Unmarshal(n.Servers, &plain) == nil {
			found = append(found, plain...)
		} else if json.Unmarshal(n.Servers, &things) == nil {
			for _, t := range things {
				found = append(found, t.Server)
			}
		}
	}
	slices.Sort(found)
	found = slices.DeleteFunc(slices.Compact(found), func(s string) bool { return s == "" })
	return found[:min(len(found), maxServers)]
}

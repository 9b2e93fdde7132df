package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"rehost/protocol"
)

// secret are settings that people put passwords into: what a plan shows of them is their size and hash.
var secret = []string{"user_data", "content"}

// differences lists the settings that differ, each by its path.
func differences(old, now any) ([]protocol.FieldChange, error) {
	if reflect.DeepEqual(old, now) { // nearly all are, in a large fleet
		return nil, nil
	}
	a, err := settings(old)
	if err != nil {
		return nil, err
	}
	b, err := settings(now)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []protocol.FieldChange
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(a[path], b[path]) {
			out = append(out, protocol.FieldChange{Field: path, Before: shown(path, a[path]), After: shown(path, b[path])})
		}
	}
	return out, nil
}

// settings are the values of a block by their paths. An empty one is as good as none.
func settings(block any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(block)
	if err != nil {
		return nil, fmt.Errorf("compare settings: %w", err)
	}
	out := map[string]json.RawMessage{}
	if err := flatten("", text, out); err != nil {
		return nil, fmt.Errorf("compare settings: %w", err)
	}
	return out, nil
}

// flatten takes objects apart, and lists of objects: those are named by their name, or counted.
func flatten(path string, text json.RawMessage, to map[string]json.RawMessage) error {
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			return err
		}
		for name, v := range fields {
			if err := flatten(strings.TrimPrefix(path+"."+name, "."), v, to); err != nil {
				return err
			}
		}
		return nil
	case bytes.HasPrefix(text, []byte("[{")):
		var items []json.RawMessage
		if err := json.Unmarshal(text, &items); err != nil {
			return err
		}
		return flattenList(path, items, to)
	case string(text) == "null", string(text) == "[]":
		return nil
	}
	to[path] = text
	return nil
}

// flattenList notes the order of named items too: scripts run in theirs.
func flattenList(path string, items []json.RawMessage, to map[string]json.RawMessage) error {
	var names []string
	for i, item := range items {
		var of struct{ Name string }
		_ = json.Unmarshal(item, &of) // one without a name is counted
		name := of.Name
		if name == "" {
			name = fmt.Sprint(i)
		} else {
			names = append(names, name)
		}
		if err := flatten(fmt.Sprintf("%s[%s]", path, name), item, to); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	order, err := json.Marshal(names)
	to[path] = order
	return err
}

// shown is what a plan shows of a value.
func shown(path string, v json.RawMessage) json.RawMessage {
	if v == nil || !slices.Contains(secret, path[strings.LastIndexByte(path, '.')+1:]) {
		return v
	}
	var text string
	_ = json.Unmarshal(v, &text) // both are texts
	if text == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(text))
	return json.RawMessage(fmt.Sprintf(`"(%d bytes, sha256 %x...)"`, len(text), sum[:4]))
}

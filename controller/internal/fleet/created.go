package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehost/protocol"
)

// describe notes what is set of each block that is created, its defaults among it, and what it gets of the blocks around it.
func describe(changes []protocol.PlanChange, wanted protocol.Fleet) error {
	blocks, around := named(wanted), surroundings(wanted)
	for i := range changes {
		c := &changes[i]
		if c.Action != protocol.PlanCreate {
			continue
		}
		set, err := settings(blocks[c.Kind][c.Name])
		if err != nil {
			return err
		}
		maps.DeleteFunc(set, func(path string, v json.RawMessage) bool { return said(path) || unset(path, string(v)) })
		for path, text := range around(c.Kind, c.Name) {
			if text == "" {
				continue
			}
			if set[path], err = json.Marshal(text); err != nil {
				return fmt.Errorf("describe %s %s: %w", c.Kind, c.Name, err)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(set)) {
			c.Fields = append(c.Fields, protocol.FieldChange{Field: path, After: shown(path, set[path])})
		}
	}
	return nil
}

// said says whether a setting is a name that is shown elsewhere: the block's, or that of an item of a list, whose path has it.
func said(path string) bool { return path == "name" || strings.HasSuffix(path, "].name") }

// unset says whether a value says nothing of its block. No time and no bytes do: they are never, at once, or without a limit.
func unset(path, v string) bool {
	measure := strings.HasSuffix(path, "_ns") || strings.HasSuffix(path, "_bytes")
	return v == `""` || v == "false" || v == "0" && !measure
}

// surroundings finds what a block gets of others: a server its application, its wave, and where it is staged and launched as what.
// Who wants to know more of a launch or replication block looks at that.
func surroundings(f protocol.Fleet) func(kind, name string) map[string]string {
	application, wave := map[string]string{}, map[string]string{}
	for _, a := range f.Applications {
		for _, s := range a.Servers {
			application[s] = a.Name
		}
	}
	for _, w := range f.Waves {
		for _, a := range w.Applications {
			wave[a] = w.Name
		}
	}
	settings := Lookup(f)
	return func(kind, name string) map[string]string {
		switch kind {
		case kindServer:
			_, replication, launch, _ := settings(name)
			return map[string]string{
				"application": application[name], "wave": wave[application[name]],
				"replication.subnet": replication.Subnet, "launch.subnet": launch.Subnet, "launch.instance_type": launch.InstanceType,
			}
		case kindApplication:
			return map[string]string{"wave": wave[name]}
		}
		return nil
	}
}

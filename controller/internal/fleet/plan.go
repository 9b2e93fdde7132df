package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"rehost/protocol"
)

// Kinds of blocks.
const (
	kindReplication = "replication"
	kindLaunch      = "launch"
	kindCheck       = "check"
	kindAction      = "action"
	kindServer      = "server"
	kindApplication = "application"
	kindWave        = "wave"
)

// kinds is the order in which a plan lists its changes: what others refer to comes first.
var kinds = []string{kindReplication, kindLaunch, kindCheck, kindAction, kindServer, kindApplication, kindWave}

// View is the world beside the configurations, as a plan sees it.
type View struct {
	Servers  map[string]protocol.Server // records, by name
	Disks    map[string][]protocol.DiskReport
	Points   map[string]int // by server: whose snapshots are there
	Replicas []protocol.ReplicaServer
}

// Plan says what making the wanted configuration the applied one would change.
func Plan(applied, wanted protocol.Fleet, v View) (protocol.Plan, error) {
	plan := protocol.Plan{Changes: []protocol.PlanChange{}}
	before, after := named(applied), named(wanted)
	for _, kind := range kinds {
		changes, err := compare(kind, before[kind], after[kind])
		if err != nil {
			return protocol.Plan{}, err
		}
		plan.Changes = append(plan.Changes, changes...)
	}
	recall(plan.Changes, v)
	var err error
	if plan.Hash, err = hash(plan.Changes); err != nil {
		return protocol.Plan{}, err
	}
	if err := describe(plan.Changes, wanted); err != nil {
		return protocol.Plan{}, err
	}
	e := effects{view: v, wanted: wanted, settings: Lookup(wanted)}
	for i := range plan.Changes {
		e.of(&plan.Changes[i])
	}
	plan.Effects = e.sum()
	return plan, nil
}

// recall notes what the records say of servers whose replicas would go, or come back.
func recall(changes []protocol.PlanChange, v View) {
	for i := range changes {
		c := &changes[i]
		r, ok := v.Servers[c.Name]
		if c.Kind != kindServer || c.Action == protocol.PlanUpdate || !ok {
			continue
		}
		c.Recorded = string(r.Lifecycle)
		if r.Generation != "" {
			c.Recorded += ", replica " + r.Generation
		}
		if r.Cutover != nil {
			c.Recorded += ", launched " + r.Cutover.Instance
		}
	}
}

// hash is of all that a plan depends on: the values before and after, and the records. Effects grow while a server replicates, and
// the fields of a created block are for people: its content stands for it.
func hash(changes []protocol.PlanChange) (string, error) {
	bare := slices.Clone(changes)
	for i := range bare {
		bare[i].Effects = nil
		if bare[i].Action == protocol.PlanCreate {
			bare[i].Fields = nil
		}
	}
	text, err := json.Marshal(bare)
	if err != nil {
		return "", fmt.Errorf("hash the plan: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

func named(f protocol.Fleet) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, kind := range kinds {
		out[kind] = map[string]any{}
	}
	for _, v := range f.Replications {
		out[kindReplication][v.Name] = v
	}
	for _, v := range f.Launches {
		out[kindLaunch][v.Name] = v
	}
	for _, v := range f.Checks {
		out[kindCheck][v.Name] = v
	}
	for _, v := range f.Actions {
		out[kindAction][v.Name] = v
	}
	for _, v := range f.Servers {
		out[kindServer][v.Name] = v
	}
	for _, v := range f.Applications {
		out[kindApplication][v.Name] = v
	}
	for _, v := range f.Waves {
		out[kindWave][v.Name] = v
	}
	return out
}

func compare(kind string, before, after map[string]any) ([]protocol.PlanChange, error) {
	var out []protocol.PlanChange
	for _, name := range slices.Sorted(maps.Keys(after)) {
		old, ok := before[name]
		if !ok {
			// Its content counts for the hash: a saved plan whose file was edited is another plan.
			sum, err := digest(after[name])
			if err != nil {
				return nil, err
			}
			out = append(out, protocol.PlanChange{Action: protocol.PlanCreate, Kind: kind, Name: name, Content: sum})
			continue
		}
		fields, err := differences(old, after[name])
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			out = append(out, protocol.PlanChange{Action: protocol.PlanUpdate, Kind: kind, Name: name, Fields: fields})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			sum, err := digest(before[name])
			if err != nil {
				return nil, err
			}
			out = append(out, protocol.PlanChange{Action: protocol.PlanRemove, Kind: kind, Name: name, Content: sum})
		}
	}
	return out, nil
}

// digest stands for the whole of a block.
func digest(block any) (string, error) {
	text, err := json.Marshal(block)
	if err != nil {
		return "", fmt.Errorf("hash a block: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4]), nil
}

package operator

import (
	"context"
	"slices"
	"time"

	"rehost/internal/bus"
	"rehost/protocol"
)

// Grant sets the roles of an operator. Only who holds the keys of the fleet can ask for it.
func (d *Desk) Grant(ctx context.Context, req protocol.GrantRequest) (protocol.Operator, error) {
	roles := slices.Compact(slices.Sorted(slices.Values(req.Roles)))
	for _, name := range append([]string{req.Name}, roles...) {
		if err := protocol.CheckName(name); err != nil {
			return protocol.Operator{}, &protocol.Problem{Code: protocol.ProblemInvalid, Message: err.Error(), Hint: "choose such a name"}
		}
	}
	o := protocol.Operator{Name: req.Name, Roles: roles, By: bus.Sender(ctx), At: time.Now()}
	return o, d.store.Operators.Put(ctx, o.Name, o)
}

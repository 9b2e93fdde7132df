package cli

import "context"

// view is what is seen at one look.
type view struct {
	value any            // for JSON
	state string         // what must change for a log to get a new page
	page  func(*printer) // for people
	ended bool           // there is nothing to wait for any more
}

// watch shows a view again and again, until it has ended or is interrupted: it repaints a terminal, and writes a log a new page only when the
// state changed.
func watch(ctx context.Context, env Env, c *client, asJSON bool, look func(context.Context) (view, error)) error {
	last := ""
	err := follow(ctx, c, 0, func(ctx context.Context) (bool, error) {
		v, err := look(ctx)
		if err != nil {
			return false, err
		}
		if asJSON {
			return v.ended, writeJSON(env.Stdout, v.value)
		}
		var p printer
		if env.Terminal {
			p.b.WriteString("\x1b[H\x1b[J")
		}
		if env.Terminal || v.state != last {
			v.page(&p)
		}
		last = v.state
		return v.ended, p.flush(env.Stdout)
	})
	if ctx.Err() == nil {
		return err
	}
	return nil // to interrupt is how a watch ends
}

package operator

import (
	"fmt"
	"time"

	"rehost/protocol"
)

// deadShown is how long a dead letter is a problem in the status.
const deadShown = 24 * time.Hour

// webhooks returns the webhooks, and what is wrong with them.
func (d *Desk) webhooks(now time.Time) ([]protocol.Webhook, []protocol.Problem, error) {
	all, err := d.store.Webhooks.List("")
	var problems []protocol.Problem
	for _, w := range all {
		problems = append(problems, webhookProblems(w, now)...)
	}
	return all, problems, err
}

func webhookProblems(w protocol.Webhook, now time.Time) (out []protocol.Problem) {
	if !w.Failing.IsZero() {
		out = append(out, protocol.Problem{
			Code: protocol.ProblemWebhook, At: w.Failing, Message: fmt.Sprintf("webhook %s fails since %s, and %d events wait: %s", w.Name, w.Failing.Format(time.RFC3339), len(w.Held), w.Error),
			Hint: "look at its receiver, and at its url and secret_file in controller.hcl; it is tried again by itself",
		})
	}
	if n := len(w.Letters); n > 0 && now.Sub(w.Letters[n-1].At) < deadShown {
		newest := w.Letters[n-1]
		out = append(out, protocol.Problem{
			Code: protocol.ProblemWebhook, At: newest.At, Server: newest.Server,
			Message: fmt.Sprintf("webhook %s: %d events were given up, the newest is %s: %s", w.Name, w.Dead, newest.ID, newest.Error),
			Hint:    "they are in rehost events, and listed by rehost status -o json",
		})
	}
	return out
}

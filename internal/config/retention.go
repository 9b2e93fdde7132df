package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

const (
	day          = 24 * time.Hour
	maxRetention = 10 * 365 * day
	maxTiers     = 10
)

// retention reads a list of tiers such as "1h for 1d". An empty list keeps only the newest points.
func (r *reader) retention(a *hcl.Attribute, to *[]protocol.RetentionTier) {
	var texts []string
	if !r.texts(a, &texts) {
		return
	}
	if len(texts) > maxTiers {
		r.fail(a.Expr.Range(), "Too many tiers", "%s has up to %d tiers. Remove some.", a.Name, maxTiers)
		return
	}
	tiers := make([]protocol.RetentionTier, 0, len(texts))
	points := 0
	for _, text := range texts {
		tier, err := retentionTier(text)
		if err != nil {
			r.fail(a.Expr.Range(), "Not a tier", "%q: %v. Write how far apart points are kept and for how long, such as %q.", text, err, "1h for 1d")
			return
		}
		tiers = append(tiers, tier)
		points += int((tier.For+tier.Every-1)/tier.Every) + 1
	}
	if points > maxKeep {
		r.fail(a.Expr.Range(), "Too many points", "That is up to %d points of each server, %d are allowed. Keep them farther apart, or for less long.", points, maxKeep)
		return
	}
	*to = tiers
}

func retentionTier(text string) (protocol.RetentionTier, error) {
	every, span, ok := strings.Cut(text, " for ")
	if !ok {
		return protocol.RetentionTier{}, fmt.Errorf("there is no \" for \" in it")
	}
	var tier protocol.RetentionTier
	for _, v := range []struct {
		text string
		to   *time.Duration
	}{{every, &tier.Every}, {span, &tier.For}} {
		d, err := longDuration(strings.TrimSpace(v.text))
		if err != nil {
			return tier, err
		}
		*v.to = d
	}
	if tier.Every < minEvery || tier.For > maxRetention {
		return tier, fmt.Errorf("the times are from %s to 10 years", FormatDuration(minEvery))
	}
	if tier.For < tier.Every {
		return tier, fmt.Errorf("%s is shorter than %s", span, every)
	}
	return tier, nil
}

// longDuration is a duration that may be in whole days or weeks too.
func longDuration(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		var n int
		if head, ok := strings.CutSuffix(text, suffix); ok {
			if _, err := fmt.Sscanf(head, "%d", &n); err != nil || fmt.Sprint(n) != head || n < 1 || n > 3650 {
				return 0, fmt.Errorf("%q is not a number of days or weeks", text)
			}
			return time.Duration(n) * unit, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	return d, nil
}

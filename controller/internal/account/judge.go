package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// purposes is for what things are needed, by what is said of them, in the order in which it was said first.
type purposes struct {
	order []string
	of    map[string][]string
	hints map[string]string
}

func (p *purposes) add(what, purpose, hint string) {
	if p.of == nil {
		p.of, p.hints = map[string][]string{}, map[string]string{}
	}
	if p.of[what] == nil {
		p.order = append(p.order, what)
		p.hints[what] = hint
	}
	if !slices.Contains(p.of[what], purpose) {
		p.of[what] = append(p.of[what], purpose)
	}
}

// shown is how many purposes are named.
const shown = 3

func (p *purposes) text(what string) string {
	all := p.of[what]
	if len(all) > shown {
		return strings.Join(all[:shown], ", ") + fmt.Sprintf(" and %d more", len(all)-shown)
	}
	return strings.Join(all, ", ")
}

// judge turns answers into findings: what is not allowed or not there, by what it is, and what is not known, by why. It is pure.
func judge(all []question, answers [][]cloud.Trial) []protocol.Finding {
	found := map[protocol.FindingCode]*purposes{}
	for _, code := range []protocol.FindingCode{protocol.FindingPermission, protocol.FindingNoImage, protocol.FindingNoProfile, protocol.FindingKey, protocol.FindingCloudUnknown} {
		found[code] = &purposes{}
	}
	for i, trials := range answers {
		for _, t := range trials {
			if t.Err == nil {
				continue
			}
			code, what, purpose := classify(t, all[i].purpose)
			found[code].add(what, purpose, hint.Of(t.Err))
		}
	}
	var out []protocol.Finding
	for _, code := range slices.Sorted(maps.Keys(found)) {
		for _, what := range found[code].order {
			f := protocol.Finding{Severity: protocol.SeverityCritical, Code: code, Hint: found[code].hints[what]}
			text := found[code].text(what)
			f.Message = what + "; it is needed for: " + text
			if code == protocol.FindingPermission {
				f.Subject, f.Message = what, "the controller may not call "+what+", which it needs for: "+text
			}
			if code == protocol.FindingCloudUnknown {
				f.Severity, f.Message = protocol.SeverityInfo, "not known, because "+what+": whether the cloud allows "+text
				f.Hint = cmp.Or(f.Hint, "nothing now; look again with rehost server preflight --fresh when the first server replicates")
			}
			out = append(out, f)
		}
	}
	return out
}

// classify says what kind of trouble a trial met, what it is about, and for what that is needed.
func classify(t cloud.Trial, purpose string) (code protocol.FindingCode, what, of string) {
	unfit, isUnfit := errors.AsType[*cloud.UnfitKey](t.Err)
	missing := cloud.Missing(t.Err)
	switch {
	case missing != "" && !slices.Contains(unneeded, missing):
		return protocol.FindingPermission, missing, purpose
	case isUnfit:
		return protocol.FindingKey, unfit.Error(), purpose
	case cloud.NoProfile(t.Err):
		return protocol.FindingNoProfile, "there is no such instance profile (" + t.Err.Error() + ")", purpose
	case cloud.NoImage(t.Err):
		return protocol.FindingNoImage, t.Err.Error(), purpose
	case errors.Is(t.Err, context.DeadlineExceeded):
		return protocol.FindingCloudUnknown, "the cloud did not answer in time", t.Action
	case errors.Is(t.Err, cloud.ErrUntried):
		return protocol.FindingCloudUnknown, strings.TrimPrefix(t.Err.Error(), cloud.ErrUntried.Error()+": "), t.Action
	}
	return protocol.FindingCloudUnknown, t.Err.Error(), t.Action
}

// unneeded are the actions that only this package's questions need: without them less is known, and nothing fails.
var unneeded = []string{"kms:DescribeKey", "servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"}

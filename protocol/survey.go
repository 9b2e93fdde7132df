package protocol

import (
	"fmt"
	"strings"
	"time"
)

// SurveyOrder asks an agent for what a conversion of its server would say. It is always there: an agent makes a survey when the
// order differs from that of its last one, and anew when that is old.
type SurveyOrder struct {
	ID      string             `json:"id"` // changes when an operator wants a new one; may be empty
	Options ConversionSettings `json:"options"`
}

// Equal says whether two orders are the same.
func (o SurveyOrder) Equal(other SurveyOrder) bool {
	return o.ID == other.ID && o.Options.Equal(other.Options)
}

// Survey is what a conversion would say of the source as it is. Nothing of its files is in it.
type Survey struct {
	Order    SurveyOrder `json:"order"`
	At       time.Time   `json:"at"`
	Guest    Guest       `json:"guest"`
	Findings []Finding   `json:"findings,omitempty"`
	Omitted  int         `json:"omitted,omitempty"` // findings beyond MaxSurveyFindings
	Changes  int         `json:"changes"`           // that the conversion would make; 0 also when it would refuse
	Seconds  float64     `json:"seconds"`
	Problem  *Problem    `json:"problem,omitempty"` // why nothing is known
}

// Bounds of a survey, which travels in a report.
const (
	MaxSurveyFindings = 32
	MaxSurveyText     = 300 // bytes of each text of a finding
)

// PreflightRequest asks what was found about servers before anything of theirs is launched; no name: all servers.
type PreflightRequest struct {
	Servers []string `json:"servers,omitempty"`
	Fresh   bool     `json:"fresh,omitempty"` // order a new survey
}

// Reads implements [Reader].
func (r PreflightRequest) Reads() bool { return !r.Fresh }

// Preflight is what was found about one server, or about the cloud, which concerns them all.
type Preflight struct {
	Server   string    `json:"server"`   // empty: the cloud
	Findings []Finding `json:"findings"` // the worst first
	Surveyed time.Time `json:"surveyed,omitzero"`
	Pending  bool      `json:"pending,omitempty"` // a survey as the settings are now was ordered, and has not come
	Guest    *Guest    `json:"guest,omitempty"`
}

// FindingCount says how many findings of a severity there are.
type FindingCount struct {
	Critical int `json:"critical"`
	Warnings int `json:"warnings"`
}

// String is such as "1 critical, 2 warnings"; empty when there is neither.
func (n FindingCount) String() string {
	var parts []string
	if n.Critical > 0 {
		parts = append(parts, fmt.Sprintf("%d critical", n.Critical))
	}
	if n.Warnings == 1 {
		parts = append(parts, "1 warning")
	} else if n.Warnings > 1 {
		parts = append(parts, fmt.Sprintf("%d warnings", n.Warnings))
	}
	return strings.Join(parts, ", ")
}

// CountFindings counts those that matter.
func CountFindings(findings []Finding) (n FindingCount) {
	for _, f := range findings {
		switch f.Severity {
		case SeverityCritical:
			n.Critical++
		case SeverityWarning:
			n.Warnings++
		case SeverityInfo:
		}
	}
	return n
}

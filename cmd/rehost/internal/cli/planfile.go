package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

const (
	planFormat  = "rehost plan"
	planVersion = 1
	// maxPlanFile bounds a plan: a configuration is at most a fraction of it.
	maxPlanFile = 128 << 20
)

// planFile is a plan that is kept, with the configuration that it is of: what people put into user_data and scripts is in it as
// it is, so only its owner may read it. No identity is in it.
type planFile struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Made    time.Time `json:"made"`
	By      string    `json:"by"`   // version of rehost
	From    string    `json:"from"` // the configuration's folder
	protocol.PlanRequest
	Plan protocol.Plan `json:"plan"`
}

func newPlanFile(req protocol.PlanRequest, plan protocol.Plan, from string, at time.Time) planFile {
	return planFile{Format: planFormat, Version: planVersion, Made: at, By: version.String(), From: from, PlanRequest: req, Plan: plan}
}

func (p planFile) save(path string) error {
	text, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("keep the plan: %w", err)
	}
	if err := writePrivate(path, append(text, '\n')); err != nil {
		return hint.Wrap(fmt.Errorf("keep the plan: %w", err), "name a file in a folder that exists, with --out")
	}
	return nil
}

// loadPlan reads a plan that was kept. kept is false when path is something else, such as a configuration.
func loadPlan(path string) (p planFile, kept bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.IsDir()) {
		return p, false, nil // who reads configurations says what is wrong
	}
	if err != nil {
		return p, false, fmt.Errorf("read plan: %w", err)
	}
	if info.Size() > maxPlanFile {
		return p, false, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return p, false, fmt.Errorf("read plan: %w", err)
	}
	if !bytes.HasPrefix(text, []byte("{")) { // no HCL begins so
		return p, false, nil
	}
	const next = "make it anew: rehost plan DIR --out "
	var head struct {
		Format  string
		Version int
		By      string
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Format != planFormat {
		return p, false, hint.New(path+" is neither a configuration nor a plan, or was cut off", next+path)
	}
	if head.Version > planVersion {
		return p, false, hint.New(fmt.Sprintf("plan %s is of a newer version: rehost %s wrote format %d, this one knows up to %d", path, head.By, head.Version, planVersion),
			"use that version of rehost, or "+next+path)
	}
	if err := json.Unmarshal(text, &p); err != nil || p.Plan.Hash == "" {
		return p, false, hint.New(fmt.Sprintf("plan %s is damaged", path), next+path)
	}
	return p, true, nil
}

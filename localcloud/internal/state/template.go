package state

import "time"

// Template is a launch template.
type Template struct {
	ID, Name string
	Created  time.Time
	// Default is the number of the version that is used when none is named.
	Default int64
	// Last is the highest number that was given out.
	Last     int64
	Versions map[int64]*TemplateVersion
}

// TemplateVersion is one version of a launch template. It never changes.
type TemplateVersion struct {
	Description string
	Created     time.Time
	// Parameters are those of RunInstances that the template sets, by their names in the call.
	Parameters map[string]string
}

// TemplateNamed returns the template with a name, or nil.
func (s *State) TemplateNamed(name string) *Template {
	for _, t := range s.Templates {
		if t.Name == name {
			return t
		}
	}
	return nil
}

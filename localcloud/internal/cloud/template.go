package cloud

import (
	"maps"
	"strconv"
	"time"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// TemplateRequest asks for a launch template, or for a version of one.
type TemplateRequest struct {
	Description string
	Parameters  map[string]string
	// Token and Digest make the call idempotent.
	Token, Digest string
}

// CreateTemplate makes a launch template with one version. With a client token
// that was used before it returns what that call made.
func (c *Cloud) CreateTemplate(name string, r TemplateRequest, tags map[string]string) (*state.Template, error) {
	var t *state.Template
	err := c.Store.Update(func(st *state.State) error {
		id, err := replayed(st, "CreateLaunchTemplate", r.Token, r.Digest)
		if err != nil {
			return err
		}
		if t = st.Templates[id]; t != nil {
			return nil
		}
		if st.TemplateNamed(name) != nil {
			return fault.New("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
		}
		now := time.Now()
		t = &state.Template{
			ID: state.NewID("lt"), Name: name, Created: now, Default: 1, Last: 1,
			Versions: map[int64]*state.TemplateVersion{1: {Description: r.Description, Created: now, Parameters: r.Parameters}},
		}
		st.Templates[t.ID] = t
		remember(st, "CreateLaunchTemplate", r.Token, r.Digest, t.ID)
		return setTags(st, t.ID, tags)
	})
	return t, err
}

// CreateTemplateVersion adds a version, whose parameters are laid over those of
// the version source, if one is named. It returns the template and the number.
func (c *Cloud) CreateTemplateVersion(id, source string, r TemplateRequest) (*state.Template, int64, error) {
	var t *state.Template
	var number int64
	err := c.changeTemplate(id, func(found *state.Template) error {
		t = found
		parameters := r.Parameters
		if source != "" {
			n, err := VersionOf(t, source)
			if err != nil {
				return err
			}
			parameters = maps.Clone(t.Versions[n].Parameters)
			maps.Copy(parameters, r.Parameters)
		}
		t.Last++
		number = t.Last
		t.Versions[number] = &state.TemplateVersion{Description: r.Description, Created: time.Now(), Parameters: parameters}
		return nil
	})
	return t, number, err
}

// SetDefaultVersion says which version is used when a launch names none.
func (c *Cloud) SetDefaultVersion(id, version string) (*state.Template, error) {
	var t *state.Template
	err := c.changeTemplate(id, func(found *state.Template) error {
		n, err := VersionOf(found, version)
		if err == nil {
			t, found.Default = found, n
		}
		return err
	})
	return t, err
}

// DeleteTemplateVersions forgets versions, but not the default one. It returns the template.
func (c *Cloud) DeleteTemplateVersions(id string, versions []string) (*state.Template, error) {
	var t *state.Template
	err := c.changeTemplate(id, func(found *state.Template) error {
		t = found
		for _, v := range versions {
			n, err := VersionOf(t, v)
			if err != nil {
				return err
			}
			if n == t.Default {
				return fault.New("InvalidLaunchTemplateId.VersionInUse", "The version %d is the default version of %s: set another one first", n, id)
			}
			delete(t.Versions, n)
		}
		return nil
	})
	return t, err
}

// DeleteTemplate forgets a launch template with all its versions.
func (c *Cloud) DeleteTemplate(id string) error {
	return c.Store.Update(func(st *state.State) error {
		if st.Templates[id] == nil {
			return noTemplate(id)
		}
		delete(st.Templates, id)
		delete(st.Tags, id)
		return nil
	})
}

func (c *Cloud) changeTemplate(id string, change func(*state.Template) error) error {
	return c.Store.Update(func(st *state.State) error {
		if st.Templates[id] == nil {
			return noTemplate(id)
		}
		return change(st.Templates[id])
	})
}

func noTemplate(id string) error {
	return fault.New("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
}

// VersionOf resolves $Default, $Latest, a number, or nothing, which is the default.
func VersionOf(t *state.Template, version string) (int64, error) {
	n := t.Default
	switch version {
	case "", "$Default":
	case "$Latest":
		n = 0
		for have := range t.Versions {
			n = max(n, have)
		}
	default:
		var err error
		if n, err = strconv.ParseInt(version, 10, 64); err != nil {
			return 0, fault.New("InvalidLaunchTemplateId.VersionNotFound", "'%s' is neither a number nor $Latest nor $Default", version)
		}
	}
	if t.Versions[n] == nil {
		return 0, fault.New("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", version, t.ID)
	}
	return n, nil
}

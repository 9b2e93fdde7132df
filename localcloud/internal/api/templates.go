package api

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

type xmlTemplate struct {
	ID      string   `xml:"launchTemplateId"`
	Name    string   `xml:"launchTemplateName"`
	Created string   `xml:"createTime"`
	By      string   `xml:"createdBy"`
	Default int64    `xml:"defaultVersionNumber"`
	Latest  int64    `xml:"latestVersionNumber"`
	Tags    []xmlTag `xml:"tagSet>item"`
}

func templateXML(s *Server, t *state.Template) xmlTemplate {
	latest, _ := cloud.VersionOf(t, "$Latest")
	return xmlTemplate{t.ID, t.Name, stamp(t.Created), s.caller().ARN, t.Default, latest, tagsXML(s.Cloud.Store.View(), t.ID)}
}

type oneTemplate struct {
	Template xmlTemplate `xml:"launchTemplate"`
}

const templateData = "LaunchTemplateData."

// templateRequest reads the parameters that the launch template shall set.
func templateRequest(p params) cloud.TemplateRequest {
	r := cloud.TemplateRequest{Description: p.str("VersionDescription"), Parameters: map[string]string{}, Token: p.str("ClientToken"), Digest: p.digest()}
	for name := range p.values {
		if rest, ok := strings.CutPrefix(name, templateData); ok {
			r.Parameters[rest] = p.str(name)
		}
	}
	if len(r.Parameters) == 0 && *p.err == nil {
		*p.err = fault.Missing("LaunchTemplateData")
	}
	return r
}

// findTemplate returns the launch template that the parameters below prefix name.
func findTemplate(st *state.State, p params, prefix string) (*state.Template, error) {
	id, name := p.str(prefix+"LaunchTemplateId"), p.str(prefix+"LaunchTemplateName")
	switch {
	case id == "" && name == "":
		return nil, fault.Missing(prefix + "LaunchTemplateId")
	case id != "" && name != "":
		return nil, fault.New("InvalidParameterCombination", "The parameters LaunchTemplateId and LaunchTemplateName cannot be used together")
	case name != "":
		if t := st.TemplateNamed(name); t != nil {
			return t, nil
		}
		return nil, fault.New("InvalidLaunchTemplateName.NotFoundException", "At least one of the launch templates specified in the request does not exist: %s", name)
	case st.Templates[id] == nil:
		return nil, fault.New("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	}
	return st.Templates[id], nil
}

func createTemplate(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	p.onlyTags("launch-template")
	name, tags, r := p.need("LaunchTemplateName"), p.tags("launch-template"), templateRequest(p)
	if *p.err != nil {
		return nil, *p.err
	}
	t, err := s.Cloud.CreateTemplate(name, r, tags)
	if err != nil {
		return nil, err
	}
	return oneTemplate{templateXML(s, t)}, nil
}

func createTemplateVersion(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	t, err := findTemplate(st, p, "")
	r := templateRequest(p)
	if err == nil {
		err = *p.err
	}
	if err != nil {
		return nil, err
	}
	t, number, err := s.Cloud.CreateTemplateVersion(t.ID, p.str("SourceVersion"), r)
	if err != nil {
		return nil, err
	}
	return struct {
		Version xmlVersion `xml:"launchTemplateVersion"`
	}{versionXML(s, t, number)}, nil
}

func modifyTemplate(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	t, err := findTemplate(st, p, "")
	if err != nil {
		return nil, err
	}
	// EC2's parameter is called SetDefaultVersion, its clients say DefaultVersion.
	version := p.str("SetDefaultVersion") + p.str("DefaultVersion")
	if t, err = s.Cloud.SetDefaultVersion(t.ID, version); err != nil {
		return nil, err
	}
	return oneTemplate{templateXML(s, t)}, nil
}

func deleteTemplate(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	t, err := findTemplate(st, p, "")
	if err != nil {
		return nil, err
	}
	out := oneTemplate{templateXML(s, t)}
	return out, s.Cloud.DeleteTemplate(t.ID)
}

func deleteTemplateVersions(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	t, err := findTemplate(st, p, "")
	if err != nil {
		return nil, err
	}
	versions := p.list("LaunchTemplateVersion")
	if len(versions) == 0 {
		return nil, fault.Missing("LaunchTemplateVersion")
	}
	if t, err = s.Cloud.DeleteTemplateVersions(t.ID, versions); err != nil {
		return nil, err
	}
	type deleted struct {
		ID     string `xml:"launchTemplateId"`
		Name   string `xml:"launchTemplateName"`
		Number string `xml:"versionNumber"`
	}
	var out struct {
		Gone []deleted `xml:"successfullyDeletedLaunchTemplateVersionSet>item"`
	}
	for _, v := range versions {
		out.Gone = append(out.Gone, deleted{t.ID, t.Name, v})
	}
	return out, nil
}

func describeTemplates(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	items := st.Templates
	if names := p.list("LaunchTemplateName"); len(names) > 0 {
		items = map[string]*state.Template{}
		for _, n := range names {
			t := st.TemplateNamed(n)
			if t == nil {
				return nil, fault.New("InvalidLaunchTemplateName.NotFoundException", "At least one of the launch templates specified in the request does not exist: %s", n)
			}
			items[t.ID] = t
		}
	}
	found, next, err := query[state.Template]{
		ids: "LaunchTemplateId", code: "InvalidLaunchTemplateId", items: items, most: 200,
		attributes: func(t *state.Template) attributes {
			return attributes{"launch-template-name": one(t.Name), "create-time": one(stamp(t.Created))}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Templates []xmlTemplate `xml:"launchTemplates>item"`
		NextToken string        `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, t := range found {
		out.Templates = append(out.Templates, templateXML(s, t))
	}
	return out, nil
}

func describeTemplateVersions(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	t, err := findTemplate(st, p, "")
	if err != nil {
		return nil, err
	}
	numbers := slices.Sorted(maps.Keys(t.Versions))
	if asked := p.list("LaunchTemplateVersion"); len(asked) > 0 {
		numbers = nil
		for _, v := range asked {
			n, err := cloud.VersionOf(t, v)
			if err != nil {
				return nil, err
			}
			numbers = append(numbers, n)
		}
	}
	var out struct {
		Versions []xmlVersion `xml:"launchTemplateVersionSet>item"`
	}
	for _, n := range numbers {
		out.Versions = append(out.Versions, versionXML(s, t, n))
	}
	return out, nil
}

// fromTemplate lays the request's parameters over those of the launch template
// that it names, if it names one.
func fromTemplate(st *state.State, p params) (params, error) {
	if !p.hasPrefix("LaunchTemplate.") {
		return p, nil
	}
	t, err := findTemplate(st, p, "LaunchTemplate.")
	if err != nil {
		return p, err
	}
	n, err := cloud.VersionOf(t, p.str("LaunchTemplate.Version"))
	if err != nil {
		return p, err
	}
	return p.over(newParams(templateValues(t.Versions[n]))), nil
}

func templateValues(v *state.TemplateVersion) url.Values {
	out := url.Values{}
	for name, value := range v.Parameters {
		out.Set(name, value)
	}
	return out
}

// joined are the lists of which a launch takes the template's members and its
// own. Of the same device or tag the later one counts, which is its own.
var joined = []string{"BlockDeviceMapping", "TagSpecification"}

// over returns p laid over base: structures are merged by member, lists are
// replaced, or joined with base's members first.
func (p params) over(base params) params {
	out := params{values: url.Values{}, err: p.err}
	for name, value := range base.values {
		list, _, _ := strings.Cut(name, ".")
		if slices.Contains(joined, list) || !p.has(list+".1") && !p.hasPrefix(list+".1.") {
			out.values[name] = value
		}
	}
	for name, value := range p.values {
		list, rest, _ := strings.Cut(name, ".")
		if slices.Contains(joined, list) {
			number, member, _ := strings.Cut(rest, ".")
			i, _ := strconv.Atoi(number)
			name = fmt.Sprintf("%s.%d.%s", list, i+len(base.structs(list)), member)
		}
		out.values[name] = value
	}
	return out
}

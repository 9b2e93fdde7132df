package cloud

import (
	"strings"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// mostTags is EC2's limit per resource.
const mostTags = 50

func setTags(st *state.State, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	if st.Tags[id] == nil {
		st.Tags[id] = map[string]string{}
	}
	for k, v := range tags {
		if k == "" || len(k) > 127 || strings.HasPrefix(k, "aws:") {
			return fault.Invalid("key", k, "Tag keys have 1 to 127 characters and cannot start with 'aws:'.")
		}
		if len(v) > 255 {
			return fault.Invalid("value", v, "Tag values have at most 255 characters.")
		}
		st.Tags[id][k] = v
	}
	if len(st.Tags[id]) > mostTags {
		return fault.New("TagLimitExceeded", "The maximum number of tags for a resource is %d: %s", mostTags, id)
	}
	return nil
}

// CreateTags tags existing resources: all of them or none.
func (c *Cloud) CreateTags(ids []string, tags map[string]string) error {
	return c.Store.Update(func(st *state.State) error {
		for _, id := range ids {
			if ResourceType(st, id) == "" {
				return fault.New("InvalidID", "The ID '%s' is not valid", id)
			}
			if err := setTags(st, id, tags); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteTags removes tags. A nil value removes the key whatever its value is;
// no tags at all means every tag of the resource.
func (c *Cloud) DeleteTags(ids []string, tags map[string]*string) error {
	return c.Store.Update(func(st *state.State) error {
		for _, id := range ids {
			if len(tags) == 0 {
				delete(st.Tags, id)
			}
			for k, v := range tags {
				if v == nil || st.Tags[id][k] == *v {
					delete(st.Tags[id], k)
				}
			}
		}
		return nil
	})
}

// ResourceType is EC2's name of what an id names, or "" when there is no such thing.
func ResourceType(st *state.State, id string) string {
	switch {
	case st.Volumes[id] != nil:
		return "volume"
	case st.Snapshots[id] != nil:
		return "snapshot"
	case st.Images[id] != nil:
		return "image"
	case st.Instances[id] != nil:
		return "instance"
	case st.Groups[id] != nil:
		return "security-group"
	case st.Keys[id] != nil:
		return "key-pair"
	case st.Templates[id] != nil:
		return "launch-template"
	}
	return ""
}

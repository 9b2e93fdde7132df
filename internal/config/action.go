package config

import "github.com/hashicorp/hcl/v2"

// actionBlock is what would run on a launched server. The controller runs none, so each is
// refused: a configuration must not promise what is never done.
type actionBlock struct {
	Name string    `hcl:"name,label"`
	At   hcl.Range `hcl:",def_range"`
	Body hcl.Body  `hcl:",remain"`
}

func (b actionBlock) refuse(r *reader) {
	r.fail(b.At, "Actions do not run yet", "The controller runs no actions on launched servers. Remove action %q: put the commands into user_data of the launch block, "+
		"or into an executable file under /boot/post_launch on the source, which runs once when the launched server boots first.", b.Name)
}

package guest

import (
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// selinuxLabel is the attribute that SELinux knows a file by. A file without one may be read by hardly any service of
// a guest that enforces its policy.
const selinuxLabel = "security.selinux"

// label gives a new file, link or folder the label of its folder, as the guest's own kernel would; what a policy says
// of single names is left to the guest. Without labels in the folder, as where there is no SELinux, there is none.
func (r *Root) label(p string) error {
	d, err := r.openDir(path.Dir(p))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	value := make([]byte, 4096)
	n, err := unix.Fgetxattr(int(d.Fd()), selinuxLabel, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the label of %s: %w", path.Dir(p), err)
	}
	// By the folder's descriptor and a name that is not followed, nothing outside can be meant.
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + path.Base(p)
	if err := unix.Lsetxattr(name, selinuxLabel, value[:n], 0); err != nil {
		return fmt.Errorf("label %s: %w", p, err)
	}
	return nil
}

package guest

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// selinuxLabel is the attribute that SELinux knows a file by. A file without one may be read by hardly any service of
// a guest that enforces its policy.
const selinuxLabel = "security.selinux"

// Label returns the label of the folder name, or of the nearest one above it that is there; empty when it has none, or only
// the one that a kernel makes up for files without.
func (r *Root) Label(name string) (string, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return "", err
	}
	for p != "/" {
		if info, err := r.dir.Lstat(inside(p)); err == nil && info.IsDir() {
			break
		}
		p = path.Dir(p)
	}
	d, err := r.openDir(p)
	if err != nil {
		return "", err
	}
	defer func() { _ = d.Close() }()
	label, err := labelOf(d)
	text := strings.TrimRight(string(label), "\x00")
	if strings.Contains(text, ":unlabeled_t:") || strings.Contains(text, ":file_t:") {
		text = ""
	}
	return text, err
}

// labelOf returns the label of an open folder; empty when there is none, as where there is no SELinux.
func labelOf(d *os.File) ([]byte, error) {
	value := make([]byte, 4096)
	n, err := unix.Fgetxattr(int(d.Fd()), selinuxLabel, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the label of %s: %w", d.Name(), err)
	}
	return value[:n], nil
}

// label gives a new file, link or folder the label of its folder, as the guest's own kernel would; what a policy says
// of single names is left to the guest.
func (r *Root) label(p string) error {
	d, err := r.openDir(path.Dir(p))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	value, err := labelOf(d)
	if err != nil || len(value) == 0 {
		return err
	}
	// By the folder's descriptor and a name that is not followed, nothing outside can be meant.
	name := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + path.Base(p)
	if err := unix.Lsetxattr(name, selinuxLabel, value, 0); err != nil {
		return fmt.Errorf("label %s: %w", p, err)
	}
	return nil
}

package convert

import (
	"strings"
	"testing"
)

// TestDriversAreNotKeptFromLoading: on the disk, and in the initramfs, which has a copy.
func TestDriversAreNotKeptFromLoading(t *testing.T) {
	const settings = "# hardening\nblacklist nvme-core\ninstall nvme /bin/true\nblacklist floppy\ninstall ena /sbin/modprobe --ignore-install ena\n\tblacklist ena\nblacklist\n"
	const want = "# hardening\n# rehost: EC2 needs it: blacklist nvme-core\n# rehost: EC2 needs it: install nvme /bin/true\nblacklist floppy\n" +
		"install ena /sbin/modprobe --ignore-install ena\n# rehost: EC2 needs it: \tblacklist ena\nblacklist\n"
	if got := loadable(settings); got != want || loadable(got) != want {
		t.Errorf("got %s", got)
	}
	files := debian(t)
	files["etc/modprobe.d/hardening.conf"] = settings
	files["boot/initrd.img-"+testKernel] = initrd(t, tree{"usr/lib/modules/" + testKernel + "/kernel/nvme.ko": "x", "etc/modprobe.d/hardening.conf": settings})
	dir, root := newGuest(t, files)
	convertTree(t, root)
	if got := content(t, dir, "etc/modprobe.d/hardening.conf"); got != want {
		t.Errorf("got %s", got)
	}
	in := &Initrd{}
	if err := in.scan(strings.NewReader(content(t, dir, "boot/initrd.img-"+testKernel)), testKernel); err != nil || in.Conf["etc/modprobe.d/hardening.conf"] != want {
		t.Errorf("in the initramfs: got %q, %v", in.Conf, err)
	}
}

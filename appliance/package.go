package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rehost/internal/command"
	"rehost/internal/hint"
)

// metaKernel depends on the current kernel. The generic one, because the cloud
// kernel knows no e1000e, the network card of the local cloud's instances.
const metaKernel = "linux-image-amd64"

// tools are packages with the programs that a conversion runs, and their libraries.
var tools = []string{
	"e2fsprogs", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", "libc6",
	"lvm2", "libdevmapper1.02.1", "libdevmapper-event1.02.1", "libaio1", "libedit2", "libtinfo6", "libbsd0", "libmd0",
	"libselinux1", "libpcre2-8-0", "libsystemd0", "libudev1", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1",
	"mdadm", "cryptsetup-bin", "libcryptsetup12", "libpopt0", "libargon2-1", "libjson-c5", "libssl3",
	"xfsprogs", "libinih1", "liburcu8", "dosfstools",
	"busybox-static", "fdisk", "util-linux", "libfdisk1", "libsmartcols1", "libreadline8",
}

// grubPackage has GRUB's modules for BIOS machines.
const grubPackage = "grub-pc-bin"

// pack is a package in one version.
type pack struct {
	Name, Version string
}

// file is the name that apt-get gives to the downloaded package.
func (p pack) file() string {
	return p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_amd64.deb"
}

// choose returns the packages in the versions that apt would install.
func (b *build) choose(ctx context.Context) ([]pack, error) {
	kernel, err := command.Run(ctx, "apt-cache", "depends", "--important", metaKernel)
	if err != nil {
		return nil, err
	}
	names := append([]string{grubPackage}, tools...)
	for line := range strings.Lines(string(kernel)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-") {
			names = append(names, name)
		}
	}
	out, err := command.Run(ctx, "apt-cache", append([]string{"policy"}, names...)...)
	if err != nil {
		return nil, err
	}
	candidates := map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		if n, ok := strings.CutSuffix(strings.TrimRight(line, "\n"), ":"); ok && !strings.HasPrefix(n, " ") {
			name = n
		}
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok {
			candidates[name] = v
		}
	}
	var list []pack
	for _, n := range names {
		if candidates[n] == "" || candidates[n] == "(none)" {
			return nil, hint.New("package "+n+" is not known to apt", "run apt-get update on a Debian 12 machine")
		}
		list = append(list, pack{Name: n, Version: candidates[n]})
	}
	return list, nil
}

// fetch downloads a package unless the cache has it.
func (b *build) fetch(ctx context.Context, p pack) error {
	path := filepath.Join(b.debs, p.file())
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	b.Progress("downloading " + p.Name + " " + p.Version)
	temp := filepath.Join(b.work, "download")
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return err
	}
	// Not as apt's own user: it may not be able to write here.
	if _, err := command.RunIn(ctx, temp, nil, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version); err != nil {
		return hint.Wrap(err, "check the network and run apt-get update")
	}
	if err := os.Rename(filepath.Join(temp, p.file()), path); err != nil {
		return errors.Join(fmt.Errorf("find the downloaded package %s", p.Name), err)
	}
	return nil
}

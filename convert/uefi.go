package convert

import (
	"path"
	"strings"

	"rehost/protocol"
)

// uefiFallback plans a loader at the path that firmware starts when it remembers none: what the guest told the
// old firmware's memory does not travel with the disk. It is a copy of the guest's own loader.
func (p *planner) uefiFallback() error {
	const reason = "EC2's firmware does not know the guest's boot entry and starts EFI/BOOT/BOOTX64.EFI"
	vendor, has := p.facts.loaderFolder()
	esp := p.facts.Boot.ESP
	if has || p.facts.Guest.BootMode != "uefi" {
		return nil
	}
	if vendor == "" {
		p.checkFallback()
		return nil
	}
	to := path.Join(esp, "EFI/BOOT")
	if had := p.facts.inFolder(path.Dir(to), "boot"); had != "" {
		to = had // the names on the partition have no case
	}
	shim, grub := p.facts.loaderIn(vendor, "shimx64.efi"), p.facts.loaderIn(vendor, "grubx64.efi", "grub.efi")
	if shim == "" { // SUSE's starts another name
		if shim = p.facts.loaderIn(vendor, "shim.efi"); shim != "" {
			grub = p.facts.loaderIn(vendor, "grub.efi", "grubx64.efi")
		}
	}
	copies := map[string]string{"BOOTX64.EFI": shim}
	if p.facts.Boot.Loader == LoaderSystemd {
		copies["BOOTX64.EFI"] = p.facts.loaderIn(vendor, systemdLoader)
	} else if shim == "" {
		copies["BOOTX64.EFI"] = grub
	} else {
		copies[path.Base(grub)] = grub // that is what a shim starts
		if mok := p.facts.loaderIn(vendor, "mmx64.efi", "mokmanager.efi"); mok != "" {
			copies[path.Base(mok)] = mok
		}
	}
	for _, name := range sortedKeys(copies) {
		p.write(path.Join(to, name), string(p.facts.Files[copies[name]].Data), 0o755, reason)
	}
	if config := p.facts.loaderIn(vendor, "grub.cfg"); config != "" {
		p.write(path.Join(to, "grub.cfg"), p.fallbackConfig(vendor, config), 0o755, reason)
	}
	return nil
}

// fallbackConfig returns the configuration for a copied loader, which looks for it in its own folder. One that only leads
// to /boot is good in any folder; a menu must not be there twice, or later updates would change just one.
func (p *planner) fallbackConfig(vendor, config string) string {
	if text, _ := p.facts.text(config); !hasMenu(text) {
		return text
	}
	return "# Written by rehost: this loader is a copy of the one in " + vendor + ".\n" +
		"set prefix=($root)" + strings.TrimPrefix(vendor, p.facts.Boot.ESP) + "\nconfigfile $prefix/grub.cfg\n"
}

// checkFallback says that nothing was found to boot by UEFI, or that it could not be looked for.
func (p *planner) checkFallback() {
	esp := p.facts.Boot.ESP
	hint := "mount the EFI system partition at " + esp + " on the source and run grub-install --removable"
	if _, ok := p.facts.Holds("/"); ok && !p.facts.isMounted(esp) {
		p.warn(protocol.FindingUEFIFallback, esp, hint, "the EFI system partition is not mounted at %s, so it is not known whether EC2's firmware finds a loader on it", esp)
		return
	}
	p.refuse(protocol.FindingUEFIFallback, esp, hint, "%s has neither EFI/BOOT/BOOTX64.EFI nor a loader of GRUB to put there", esp)
}

func (f Facts) isMounted(dir string) bool {
	s, ok := f.Holds(dir)
	return ok && s.Mount == dir
}

// fallback returns the loader that firmware starts when it remembers none.
func (f Facts) fallback() string {
	for _, p := range sortedKeys(f.Files) {
		if rest, ok := strings.CutPrefix(p, f.Boot.ESP+"/EFI/"); ok && strings.EqualFold(rest, "BOOT/BOOTX64.EFI") {
			return p
		}
	}
	return ""
}

// loaderFolder returns the folder on the EFI system partition with the loader to copy, empty when there is
// none, and whether there is a fallback already.
func (f Facts) loaderFolder() (string, bool) {
	if f.fallback() != "" {
		return "", true
	}
	best, names := "", []string{"grubx64.efi", "grub.efi"}
	if f.Boot.Loader == LoaderSystemd {
		names = []string{systemdLoader}
	}
	for _, p := range sortedKeys(f.Files) {
		rest, ok := strings.CutPrefix(p, f.Boot.ESP+"/EFI/")
		if !ok || path.Dir(rest) == "." {
			continue
		}
		dir := path.Dir(p)
		if file := f.loaderIn(dir, names...); file == "" || len(f.Files[file].Data) == 0 {
			continue
		}
		if best == "" || f.loaderIn(dir, "grub.cfg") != "" && f.loaderIn(best, "grub.cfg") == "" || strings.HasPrefix(f.Boot.Config, dir+"/") {
			best = dir
		}
	}
	return best, false
}

// loaderIn returns the file in a folder that has one of the names, in whatever case.
func (f Facts) loaderIn(dir string, names ...string) string {
	for _, n := range names {
		for _, p := range f.below(dir, "") {
			if strings.EqualFold(path.Base(p), n) {
				return p
			}
		}
	}
	return ""
}

// inFolder returns the folder below dir that has the name, in whatever case, and a file that was looked at.
func (f Facts) inFolder(dir, name string) string {
	for _, p := range sortedKeys(f.Files) {
		if d := path.Dir(p); path.Dir(d) == dir && strings.EqualFold(path.Base(d), name) {
			return d
		}
	}
	return ""
}

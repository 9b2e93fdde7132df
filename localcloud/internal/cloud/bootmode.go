package cloud

import (
	"slices"
	"strings"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// Boot modes, of images and of instances. An image may also prefer UEFI, which
// is then what its instances boot by if their type can, or leave it open, which
// means BIOS on all types of ours.
const (
	bios          = "legacy-bios"
	uefi          = "uefi"
	uefiPreferred = "uefi-preferred"
)

// BootModes are the kinds of firmware that instances of the type may have.
func (t InstanceType) BootModes() []string {
	if t.Hypervisor == xen {
		return []string{bios}
	}
	return []string{bios, uefi}
}

func (t InstanceType) boots(mode string) bool { return slices.Contains(t.BootModes(), mode) }

// BootMode is what an instance boots by: legacy-bios or uefi, "" for a process.
func BootMode(in *state.Instance) string {
	t, _ := instanceType(in.Type)
	switch {
	case in.Kind == state.Process:
		return ""
	case in.BootMode == uefi, in.BootMode == uefiPreferred && t.boots(uefi):
		return uefi
	}
	return bios
}

// checkMachine refuses an instance whose type does not exist, or does not have
// the firmware that its image needs.
func checkMachine(in *state.Instance) error {
	t, ok := instanceType(in.Type)
	if !ok {
		return fault.Invalid("InstanceType", in.Type, "DescribeInstanceTypes lists what there is.")
	}
	mode := BootMode(in)
	if mode == "" || t.boots(mode) {
		return nil
	}
	return fault.New("InvalidParameterValue", "The %s instance type does not support an AMI with a boot mode of %s. "+
		"Only instance types built on the Nitro System support UEFI. Specify an instance type that supports UEFI, and try again.", t.Name, strings.ToUpper(mode))
}

package cloud

// InstanceType is the size of an instance.
type InstanceType struct {
	Name      string
	VCPUs     int
	MemoryMiB int
	// Hypervisor is EC2's. It decides what firmware there is; the machine here is the same for both.
	Hypervisor string
}

// The hypervisors of EC2.
const (
	nitro = "nitro"
	xen   = "xen"
)

// InstanceTypes are the sizes on offer.
func InstanceTypes() []InstanceType {
	return []InstanceType{
		{"t2.micro", 1, 1024, xen},
		{"t2.small", 1, 2048, xen},
		{"t3.nano", 2, 512, nitro},
		{"t3.micro", 2, 1024, nitro},
		{"t3.small", 2, 2048, nitro},
		{"t3.medium", 2, 4096, nitro},
		{"t3.large", 2, 8192, nitro},
		{"t3.xlarge", 4, 16384, nitro},
		{"c5.large", 2, 4096, nitro},
		{"c5.xlarge", 4, 8192, nitro},
		{"m4.large", 2, 8192, xen},
		{"m5.large", 2, 8192, nitro},
		{"m5.xlarge", 4, 16384, nitro},
		{"r5.large", 2, 16384, nitro},
	}
}

func instanceType(name string) (InstanceType, bool) {
	for _, t := range InstanceTypes() {
		if t.Name == name {
			return t, true
		}
	}
	return InstanceType{}, false
}

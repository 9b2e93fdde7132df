package cloud

// InstanceType is the size of an instance.
type InstanceType struct {
	Name      string
	VCPUs     int
	MemoryMiB int
	// Hypervisor is EC2's. It decides what firmware there is; the machine here is the same for both.
	Hypervisor string
	// Interfaces is how many network interfaces it takes.
	Interfaces int
}

// The hypervisors of EC2.
const (
	nitro = "nitro"
	xen   = "xen"
)

// InstanceTypes are the sizes on offer.
func InstanceTypes() []InstanceType {
	return []InstanceType{
		{"t2.micro", 1, 1024, xen, 2},
		{"t2.small", 1, 2048, xen, 3},
		{"t3.nano", 2, 512, nitro, 2},
		{"t3.micro", 2, 1024, nitro, 2},
		{"t3.small", 2, 2048, nitro, 3},
		{"t3.medium", 2, 4096, nitro, 3},
		{"t3.large", 2, 8192, nitro, 3},
		{"t3.xlarge", 4, 16384, nitro, 4},
		{"c5.large", 2, 4096, nitro, 3},
		{"c5.xlarge", 4, 8192, nitro, 4},
		{"m4.large", 2, 8192, xen, 2},
		{"m5.large", 2, 8192, nitro, 3},
		{"m5.xlarge", 4, 16384, nitro, 4},
		{"r5.large", 2, 16384, nitro, 3},
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

// VCPUs is how many a type has; 0: there is no such type.
func VCPUs(name string) int {
	t, _ := instanceType(name)
	return t.VCPUs
}

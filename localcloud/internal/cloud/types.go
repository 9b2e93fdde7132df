package cloud

// InstanceType is the size of an instance.
type InstanceType struct {
	Name      string
	VCPUs     int
	MemoryMiB int
}

// InstanceTypes are the sizes on offer.
func InstanceTypes() []InstanceType {
	return []InstanceType{
		{"t3.nano", 2, 512},
		{"t3.micro", 2, 1024},
		{"t3.small", 2, 2048},
		{"t3.medium", 2, 4096},
		{"t3.large", 2, 8192},
		{"t3.xlarge", 4, 16384},
		{"c5.large", 2, 4096},
		{"c5.xlarge", 4, 8192},
		{"m5.large", 2, 8192},
		{"m5.xlarge", 4, 16384},
		{"r5.large", 2, 16384},
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

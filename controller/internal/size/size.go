// Package size chooses an instance type for a source. It is pure: cores and memory in, a type out.
package size

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rehost/internal/hint"
)

const gib = 1 << 30

// kind is a type that may be chosen.
type kind struct {
	name   string
	cores  int
	memory int64 // GiB
	price  int   // tenths of a US cent per hour of Linux on demand in us-east-1: for the order, not for bills
}

// kinds are types of the Nitro kind for x86-64, which boot by BIOS and by UEFI, and which nearly all regions have. The
// burstable ones end at two cores: a larger source is not taken for idle.
var kinds = []kind{
	{"t3.micro", 2, 1, 10},
	{"t3.small", 2, 2, 21},
	{"t3.medium", 2, 4, 42},
	{"t3.large", 2, 8, 83},
	{"r5.large", 2, 16, 126},
	{"c5.xlarge", 4, 8, 170},
	{"m5.xlarge", 4, 16, 192},
	{"r5.xlarge", 4, 32, 252},
	{"c5.2xlarge", 8, 16, 340},
	{"m5.2xlarge", 8, 32, 384},
	{"r5.2xlarge", 8, 64, 504},
	{"c5.4xlarge", 16, 32, 680},
	{"m5.4xlarge", 16, 64, 768},
	{"r5.4xlarge", 16, 128, 1008},
	{"c5.9xlarge", 36, 72, 1530},
	{"m5.8xlarge", 32, 128, 1536},
	{"r5.8xlarge", 32, 256, 2016},
	{"c5.12xlarge", 48, 96, 2040},
	{"m5.12xlarge", 48, 192, 2304},
	{"r5.12xlarge", 48, 384, 3024},
	{"c5.18xlarge", 72, 144, 3060},
	{"m5.16xlarge", 64, 256, 3072},
	{"r5.16xlarge", 64, 512, 4032},
	{"c5.24xlarge", 96, 192, 4080},
	{"m5.24xlarge", 96, 384, 4608},
	{"r5.24xlarge", 96, 768, 6048},
}

// Choose returns the cheapest type that has at least the cores and the memory, in bytes, of a source. What a kernel
// counts as its memory is less than what the machine has, so a source of 8 GiB fits a type of 8 GiB.
func Choose(cores int, memory int64) (string, error) {
	if cores < 1 || memory < 1 {
		return "", hint.New("the source's cores and memory are not known", "wait for its agent's report, or set `instance_type` in the launch block")
	}
	fitting := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.cores < cores || k.memory*gib < memory })
	if len(fitting) == 0 {
		return "", hint.New(fmt.Sprintf("no type for %d cores and %s is known here", cores, Memory(memory)), "set `instance_type` in the launch block")
	}
	return slices.MinFunc(fitting, func(a, b kind) int { return cmp.Or(cmp.Compare(a.price, b.price), strings.Compare(a.name, b.name)) }).name, nil
}

// Memory says how much memory something has, for people.
func Memory(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/gib) }

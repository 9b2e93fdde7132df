package api

import (
	"context"
	"fmt"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

func describeInstanceTypes(_ context.Context, _ *Server, st *state.State, p params) (any, error) {
	items := map[string]*cloud.InstanceType{}
	for _, t := range cloud.InstanceTypes() {
		items[t.Name] = &t
	}
	for _, n := range p.list("InstanceType") {
		if items[n] == nil {
			return nil, fault.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", n)
		}
	}
	found, next, err := query[cloud.InstanceType]{
		ids: "InstanceType", code: "InvalidInstanceType", items: items, most: 100,
		attributes: func(t *cloud.InstanceType) attributes {
			return attributes{
				"instance-type": one(t.Name), "vcpu-info.default-vcpus": one(fmt.Sprint(t.VCPUs)), "memory-info.size-in-mib": one(fmt.Sprint(t.MemoryMiB)),
				"processor-info.supported-architecture": one("x86_64"), "current-generation": one("true"), "bare-metal": one("false"), "hypervisor": one(t.Hypervisor),
				"supported-boot-mode": t.BootModes(),
			}
		},
	}.run(st, p)
	if err != nil {
		return nil, err
	}
	var out struct {
		Types     []xmlType `xml:"instanceTypeSet>item"`
		NextToken string    `xml:"nextToken,omitempty"`
	}
	out.NextToken = next
	for _, t := range found {
		out.Types = append(out.Types, xmlType{
			Name: t.Name, Current: true, Usage: []string{"on-demand"}, RootTypes: []string{"ebs"}, Virtualization: []string{"hvm"}, Hypervisor: t.Hypervisor,
			Architectures: []string{"x86_64"}, VCPUs: t.VCPUs, MemoryMiB: t.MemoryMiB, EBSOptimized: "default", EBSEncryption: "supported", NVMe: "required",
			NICs: t.Interfaces, ENA: "supported", BootModes: t.BootModes(),
		})
	}
	return out, nil
}

type xmlType struct {
	Name           string   `xml:"instanceType"`
	Current        bool     `xml:"currentGeneration"`
	Usage          []string `xml:"supportedUsageClasses>item"`
	RootTypes      []string `xml:"supportedRootDeviceTypes>item"`
	Virtualization []string `xml:"supportedVirtualizationTypes>item"`
	Hypervisor     string   `xml:"hypervisor"`
	Architectures  []string `xml:"processorInfo>supportedArchitectures>item"`
	VCPUs          int      `xml:"vCpuInfo>defaultVCpus"`
	MemoryMiB      int      `xml:"memoryInfo>sizeInMiB"`
	EBSOptimized   string   `xml:"ebsInfo>ebsOptimizedSupport"`
	EBSEncryption  string   `xml:"ebsInfo>encryptionSupport"`
	NVMe           string   `xml:"ebsInfo>nvmeSupport"`
	NICs           int      `xml:"networkInfo>maximumNetworkInterfaces"`
	ENA            string   `xml:"networkInfo>enaSupport"`
	BootModes      []string `xml:"supportedBootModes>item"`
}

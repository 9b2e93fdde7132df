package track

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Names of the tiers, best first, and of the choice among them.
const (
	TierAuto    = "auto"
	TierBTF     = "btf"
	TierClassic = "classic"
	TierScan    = "scan"
)

// tier is a way to have the kernel mark what is written: programs, and the form of the marks that they make.
type tier struct {
	name string
	// available says why this kernel cannot do it, before anything is tried.
	available func() error
	spec      func() (*ebpf.CollectionSpec, error)
	slots     bool                                  // notes lie in slots, too
	configure func(maps map[string]*ebpf.Map) error // after the maps were made; may be nil
	// programs are in the order in which they are attached. A request that is issued before the first and completes after
	// the last one is attached is marked, too.
	programs []string
	attach   func(name string, p *ebpf.Program) (link.Link, error)
	perDisk  func(d Disk) int // 64-bit words of marks
	perValue int              // words in one value of the map of marks
	// ranges is how many ranges a discard may have, where the programs want to know; may be nil.
	ranges func(d Disk) uint32
	// aliases are further device numbers under which events speak of a disk; may be nil.
	aliases func(d Disk) []uint32
	drain   func(d Disk, m marks, keep func(word int, bits uint64)) (int, error)
}

// values is how many values the map of marks needs.
func (k *tier) values(o Options) int {
	n := 0
	for _, d := range o.Disks {
		n += k.perDisk(d)
	}
	return (n + k.perValue - 1) / k.perValue
}

// entries returns what the disks map must hold.
func (k *tier) entries(o Options) map[uint32]trackDisk {
	all := o.entries(k.perDisk)
	for _, d := range o.Disks {
		if k.ranges != nil {
			entry := all[diskKey(d)]
			entry.Ranges = k.ranges(d)
			all[diskKey(d)] = entry
		}
		if k.aliases != nil {
			for _, number := range k.aliases(d) {
				all[number] = all[diskKey(d)]
			}
		}
	}
	return all
}

// btfTier marks bits from tp_btf/block_rq_complete, with block_rq_issue as its safety net.
var btfTier = &tier{
	name: TierBTF,
	available: func() error {
		if _, err := os.Stat(kernelBTF); err != nil {
			return errors.New("the kernel has no type information (CONFIG_DEBUG_INFO_BTF)")
		}
		return nil
	},
	spec: func() (*ebpf.CollectionSpec, error) {
		if err := checkIssueEvent(); err != nil {
			return nil, err
		}
		spec, err := loadTrack()
		if err != nil {
			return nil, fmt.Errorf("read the tracker's program: %w", err)
		}
		if runtime.GOARCH != "amd64" {
			if err := spec.Variables[trackVarWeaklyOrdered].Set(uint32(1)); err != nil {
				return nil, fmt.Errorf("say how the processor orders stores: %w", err)
			}
		}
		maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(btfPrograms, name) })
		return spec, nil
	},
	programs: btfPrograms,
	slots:    true,
	attach: func(_ string, p *ebpf.Program) (link.Link, error) {
		return link.AttachTracing(link.TracingOptions{Program: p})
	},
	perDisk:  Disk.Words,
	perValue: 1,
	drain: func(d Disk, m marks, keep func(word int, bits uint64)) (int, error) {
		return m.take(0, d.Words(), keep)
	},
}

//go:build mutant_read_before_swap

package track

import (
	"math/bits"
	"sync/atomic"
)

const mutantReadBeforeSwap = true

// late holds what each drain handed out and the next one clears.
var late = map[*uint64][]uint64{}

// drainLate is a drain that is wrong: a mark that is made between the read of its granule and the next drain is lost.
func drainLate(words []uint64, keep func(word int, bits uint64)) int {
	if len(words) == 0 {
		return 0
	}
	seen := late[&words[0]]
	granules := 0
	next := make([]uint64, len(words))
	for i := range words {
		if seen != nil {
			atomic.AndUint64(&words[i], ^seen[i])
		}
		if next[i] = atomic.LoadUint64(&words[i]); next[i] != 0 {
			keep(i, next[i])
			granules += bits.OnesCount64(next[i])
		}
	}
	late[&words[0]] = next
	return granules
}

package track

import (
	"math/bits"
	"sync/atomic"
)

// drain moves all marks out of words. Each word is kept before it is cleared, and cleared only if it still is what was kept.
func drain(words []uint64, keep func(word int, bits uint64)) int {
	if mutantReadBeforeSwap {
		return drainLate(words, keep)
	}
	granules := 0
	for i := range words {
		var kept uint64
		for {
			w := atomic.LoadUint64(&words[i])
			if w == 0 {
				break
			}
			keep(i, w)
			kept |= w
			if atomic.CompareAndSwapUint64(&words[i], w, 0) {
				break
			}
		}
		granules += bits.OnesCount64(kept)
	}
	return granules
}

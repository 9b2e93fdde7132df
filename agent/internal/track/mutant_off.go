//go:build !mutant_read_before_swap

package track

// mutantReadBeforeSwap makes a drain clear what it hands out only at the next drain, after it was read. It exists so that
// the tests can be shown to notice.
const mutantReadBeforeSwap = false

func drainLate([]uint64, func(word int, bits uint64)) int { return 0 }

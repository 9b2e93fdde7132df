//go:build !mutant_no_digest

package codec

// noDigest takes content whose hash is wrong. It is true in a mutant only, which `make mutants` shows to fail.
const noDigest = false

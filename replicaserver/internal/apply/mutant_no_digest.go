//go:build mutant_no_digest

package apply

// noDigest takes frames that do not follow the one before. It is true in a mutant only, which `make mutants` shows to fail.
const noDigest = true

//go:build !mutant_ack_before_flush

package apply

// ackBeforeFlush writes the checkpoint before the volumes are flushed. It is true in a mutant only, which `make mutants` shows to fail.
const ackBeforeFlush = false

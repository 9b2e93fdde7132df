package convert

import (
	"fmt"
	"io"

	"rehost/convert/internal/probe"
)

// Array is what a member says of the software RAID that it belongs to.
type Array = probe.Array

// ErrTruncated says that a partition or a filesystem reaches beyond the end of its disk.
var ErrTruncated = probe.ErrTruncated

// ReadDisk tells what is on a disk of the given size in bytes. It only reads.
func ReadDisk(disk io.ReaderAt, size int64) ([]Filesystem, error) {
	parts, err := probe.Parts(disk, size)
	if err != nil {
		return nil, err
	}
	var found []Filesystem
	for _, p := range parts {
		c, err := probe.Identify(disk, p.Offset, p.Size)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		if c.Size > p.Size {
			return nil, fmt.Errorf("partition %d: %s of %d bytes in %d: %w", p.Number, c.Type, c.Size, p.Size, ErrTruncated)
		}
		found = append(found, Filesystem{
			Partition: p.Number, Offset: p.Offset, Size: p.Size,
			Type: c.Type, UUID: c.UUID, Label: c.Label, PartUUID: p.PartUUID, PartLabel: p.Label, PartType: p.Type,
		})
	}
	return found, nil
}

// ReadArray returns what a member of a software RAID says of its array.
func ReadArray(disk io.ReaderAt, member Filesystem) (Array, bool) {
	return probe.ReadArray(disk, member.Offset, member.Size)
}

package convert

import (
	"fmt"
	"io"

	"rehost/convert/internal/probe"
)

// ReadDisk tells what is on a disk of the given size in bytes. It only reads.
func ReadDisk(disk io.ReaderAt, size int64) ([]Filesystem, error) {
	parts, err := probe.Parts(disk, size)
	if err != nil {
		return nil, err
	}
	var found []Filesystem
	for _, p := range parts {
		c, err := probe.Identify(disk, p.Offset)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		found = append(found, Filesystem{
			Partition: p.Number, Offset: p.Offset, Size: p.Size,
			Type: c.Type, UUID: c.UUID, Label: c.Label, PartUUID: p.PartUUID, PartType: p.Type,
		})
	}
	return found, nil
}

package cloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"rehost/internal/hint"
)

const (
	hashBytes = 16
	// blocksInFlight hides the latency of one block behind the others; each is 512 KiB.
	blocksInFlight = 16
)

// DiskHashes say what a disk holds: XXH3-128 of each granule, as a replica's scan gives them.
type DiskHashes struct {
	SizeBytes    int64  // of the disk; what a volume has beyond it does not count
	GranuleBytes int64  // a power of two, at most EBS's block of 512 KiB
	Hashes       []byte // 16 bytes each; the last granule may be short
}

// check says what is wrong with the hashes themselves.
func (h DiskHashes) check() error {
	if h.GranuleBytes <= 0 || h.GranuleBytes&(h.GranuleBytes-1) != 0 {
		return fmt.Errorf("granules of %d bytes are no power of two", h.GranuleBytes)
	}
	if want := (h.SizeBytes + h.GranuleBytes - 1) / h.GranuleBytes * hashBytes; int64(len(h.Hashes)) != want {
		return fmt.Errorf("%d bytes of hashes for a disk of %d bytes, want %d", len(h.Hashes), h.SizeBytes, want)
	}
	return nil
}

// differ returns the offsets of the granules in which the data at offset is not what the hashes say.
func (h DiskHashes) differ(offset int64, data []byte) (offsets []int64) {
	for ; len(data) > 0 && offset < h.SizeBytes; offset += h.GranuleBytes {
		n := min(h.GranuleBytes, h.SizeBytes-offset, int64(len(data)))
		got := xxh3.Hash128(data[:n]).Bytes()
		i := offset / h.GranuleBytes * hashBytes
		if !bytes.Equal(got[:], h.Hashes[i:i+hashBytes]) {
			offsets = append(offsets, offset)
		}
		data = data[n:]
	}
	return offsets
}

// block is a block of a snapshot. One that was never written has none, and holds zeros.
type block struct {
	index int32
	token string
}

// CheckSnapshot reads a snapshot by the EBS direct APIs, without a volume of it, and returns the offsets of
// the granules that are not what the hashes say, in order. It costs one call for each 512 KiB that were ever
// written.
func (c *Client) CheckSnapshot(ctx context.Context, snapshot string, want DiskHashes, progress Progress) ([]int64, error) {
	if err := want.check(); err != nil {
		return nil, fmt.Errorf("check snapshot %s: %w", snapshot, err)
	}
	blocks, size, err := c.snapshotBlocks(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	if size%want.GranuleBytes != 0 {
		return nil, fmt.Errorf("check snapshot %s: granules of %d bytes do not fit into blocks of %d", snapshot, want.GranuleBytes, size)
	}
	written := map[int32]string{}
	for _, b := range blocks {
		written[b.index] = b.token
	}
	all := int32((want.SizeBytes + size - 1) / size)
	found := make([][]int64, all) // by block
	done := counter{what: "blocks compared", all: len(blocks), progress: progress}
	zeros := make([]byte, size)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blocksInFlight)
	for i := range all {
		token, ok := written[i]
		if !ok {
			found[i] = want.differ(int64(i)*size, zeros)
			continue
		}
		group.Go(func() error {
			data, err := c.readBlock(ctx, snapshot, block{i, token}, size)
			if err != nil {
				return err
			}
			found[i] = want.differ(int64(i)*size, data)
			done.add()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []int64
	for _, offsets := range found {
		out = append(out, offsets...)
	}
	return out, nil
}

// counter tells the progress of what several do.
type counter struct {
	what     string
	all      int
	progress Progress

	mu   sync.Mutex
	done int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if c.progress != nil {
		c.progress(fmt.Sprintf("%d of %d %s", c.done, c.all, c.what))
	}
}

// snapshotBlocks lists the written blocks of a snapshot, and says how large each is.
func (c *Client) snapshotBlocks(ctx context.Context, snapshot string) (out []block, size int64, err error) {
	pages := ebs.NewListSnapshotBlocksPaginator(c.ebs, &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(snapshot)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, 0, fail(err, "list the blocks of snapshot %s", snapshot)
		}
		size = int64(aws.ToInt32(page.BlockSize))
		for _, b := range page.Blocks {
			out = append(out, block{aws.ToInt32(b.BlockIndex), aws.ToString(b.BlockToken)})
		}
	}
	if size <= 0 {
		return nil, 0, fmt.Errorf("list the blocks of snapshot %s: the cloud says no block size", snapshot)
	}
	return out, size, nil
}

// readBlock reads one block, and compares it with the cloud's own checksum.
func (c *Client) readBlock(ctx context.Context, snapshot string, b block, size int64) ([]byte, error) {
	out, err := c.ebs.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
		SnapshotId: aws.String(snapshot), BlockIndex: aws.Int32(b.index), BlockToken: aws.String(b.token),
	})
	if err != nil {
		return nil, fail(err, "read block %d of snapshot %s", b.index, snapshot)
	}
	defer out.BlockData.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(out.BlockData, size+1))
	if err != nil {
		return nil, fail(err, "read block %d of snapshot %s", b.index, snapshot)
	}
	sum := sha256.Sum256(data)
	if int64(len(data)) != size || out.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 ||
		base64.StdEncoding.EncodeToString(sum[:]) != aws.ToString(out.Checksum) {
		return nil, hint.New(fmt.Sprintf("block %d of snapshot %s came with %d bytes that do not have the checksum which the cloud says", b.index, snapshot, len(data)),
			"check the snapshot again; if it comes back, look at what is between this machine and the endpoint")
	}
	return data, nil
}

// ChangedBlocks returns the offsets of the blocks that differ between two snapshots of one volume, and their size.
func (c *Client) ChangedBlocks(ctx context.Context, older, newer string) (offsets []int64, size int64, err error) {
	pages := ebs.NewListChangedBlocksPaginator(c.ebs, &ebs.ListChangedBlocksInput{FirstSnapshotId: aws.String(older), SecondSnapshotId: aws.String(newer)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, 0, fail(err, "compare snapshots %s and %s", older, newer)
		}
		size = int64(aws.ToInt32(page.BlockSize))
		for _, b := range page.ChangedBlocks {
			offsets = append(offsets, int64(aws.ToInt32(b.BlockIndex))*size)
		}
	}
	return offsets, size, nil
}

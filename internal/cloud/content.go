package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"rehost/internal/hint"
)

const (
	hashBytes = 16 // XXH3-128
	// listedBlocks is how many written blocks one look at a snapshot's list brings: up to 512 MiB of it.
	listedBlocks = 1000
	// keptLists bounds how many snapshots' lists are kept at once.
	keptLists = 64
	// blocksInFlight hides the latency of one block behind the others; each is 512 KiB.
	blocksInFlight = 16
	// blockReads is how often a block is read that does not come as it was sent.
	blockReads = 5
	// tokenRest is how long a kept token must be good for. EBS's are for 7 days.
	tokenRest = time.Hour
)

// block is a block of a snapshot. One that was never written has none, and holds zeros.
type block struct {
	index int32
	token string
}

// blockList is the part of a snapshot's list that was read last: who reads a snapshot does so from its beginning to its end.
type blockList struct {
	from, to int64 // blocks that it speaks of: from <= i < to
	size     int64 // of a block, in bytes
	written  map[int32]string
	until    time.Time // when the tokens expire
}

// covers says that a list speaks of a block, by a token that is good for as long as a block may take.
func (l *blockList) covers(i int64) bool {
	return l != nil && l.from <= i && i < l.to && time.Until(l.until) > tokenRest
}

// blockLists are the lists of the snapshots that are being read.
type blockLists struct {
	mu         sync.Mutex
	bySnapshot map[string]*blockList
}

// SnapshotHashes reads a range of a snapshot by the EBS direct APIs, without a volume of it, and returns the XXH3-128 of each
// granule of it, 16 bytes each, as a replica's scan does; the last granule may be short. The range begins at a granule, and
// granules are a power of two of at most EBS's block of 512 KiB. It costs one call for each block that was ever written.
func (c *Client) SnapshotHashes(ctx context.Context, snapshot string, offset, length, granule int64) ([]byte, error) {
	if granule <= 0 || granule&(granule-1) != 0 || offset < 0 || offset%granule != 0 || length <= 0 {
		return nil, fmt.Errorf("read snapshot %s: %d bytes at %d are no granules of %d bytes", snapshot, length, offset, granule)
	}
	list, err := c.listed(ctx, snapshot, offset)
	if err != nil {
		return nil, err
	}
	size := list.size
	if size%granule != 0 {
		return nil, fmt.Errorf("read snapshot %s: granules of %d bytes do not fit into blocks of %d", snapshot, granule, size)
	}
	first, last := offset/size, (offset+length-1)/size
	hashes := make([][]byte, last-first+1) // by block
	zeros := make([]byte, size)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blocksInFlight)
	for i := first; i <= last; i++ {
		if list, err = c.listed(ctx, snapshot, i*size); err != nil {
			break
		}
		token, written := list.written[int32(i)]
		from, to := max(offset, i*size)-i*size, min(offset+length, (i+1)*size)-i*size
		group.Go(func() error {
			data := zeros
			if written {
				var err error
				if data, err = c.readBlock(ctx, snapshot, block{int32(i), token}, size); err != nil {
					return err
				}
			}
			hashes[i-first] = hashesOf(data[from:to], granule)
			return nil
		})
	}
	if err := errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	return slices.Concat(hashes...), nil
}

func hashesOf(data []byte, granule int64) []byte {
	out := make([]byte, 0, (int64(len(data))+granule-1)/granule*hashBytes)
	for len(data) > 0 {
		n := min(granule, int64(len(data)))
		h := xxh3.Hash128(data[:n]).Bytes()
		out, data = append(out, h[:]...), data[n:]
	}
	return out
}

// listed returns the part of a snapshot's list that speaks of the block at offset.
func (c *Client) listed(ctx context.Context, snapshot string, offset int64) (*blockList, error) {
	c.lists.mu.Lock()
	list := c.lists.bySnapshot[snapshot]
	c.lists.mu.Unlock()
	size := int64(ebsBlock)
	if list != nil {
		size = list.size
	}
	if list.covers(offset / size) {
		return list, nil
	}
	list, err := c.list(ctx, snapshot, offset/size)
	if err != nil {
		return nil, err
	}
	if list.size != size { // blocks are of another size than we thought
		if list, err = c.list(ctx, snapshot, offset/list.size); err != nil {
			return nil, err
		}
	}
	c.lists.mu.Lock()
	defer c.lists.mu.Unlock()
	if c.lists.bySnapshot == nil || len(c.lists.bySnapshot) >= keptLists {
		c.lists.bySnapshot = map[string]*blockList{}
	}
	c.lists.bySnapshot[snapshot] = list
	return list, nil
}

// ebsBlock is EBS's size of a block, in bytes; its answers say it too.
const ebsBlock = 512 << 10

// list reads the part of a snapshot's list that begins at a block. EBS may answer with no block at all while there are more.
func (c *Client) list(ctx context.Context, snapshot string, from int64) (*blockList, error) {
	in := &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(snapshot), StartingBlockIndex: aws.Int32(int32(from)), MaxResults: aws.Int32(listedBlocks)}
	for {
		out, err := c.ebs.ListSnapshotBlocks(ctx, in)
		if err != nil {
			return nil, fail(err, "list the blocks of snapshot %s", snapshot)
		}
		list := &blockList{from: from, to: math.MaxInt64, size: int64(aws.ToInt32(out.BlockSize)), written: map[int32]string{}, until: timeOf(out.ExpiryTime)}
		if list.size <= 0 {
			return nil, fmt.Errorf("list the blocks of snapshot %s: the cloud says no block size", snapshot)
		}
		last := from - 1
		for _, b := range out.Blocks {
			last = max(last, int64(aws.ToInt32(b.BlockIndex)))
			list.written[aws.ToInt32(b.BlockIndex)] = aws.ToString(b.BlockToken)
		}
		if aws.ToString(out.NextToken) == "" {
			return list, nil
		}
		if list.to = last + 1; list.to > from {
			return list, nil
		}
		in.NextToken = out.NextToken
	}
}

// readBlock reads one block. The SDK repeats a call until its answer begins; what is spoilt after that, or throttled for
// longer than the SDK has patience, is read again here: a check may be hours long.
func (c *Client) readBlock(ctx context.Context, snapshot string, b block, size int64) (data []byte, err error) {
	left := blockReads
	err = c.wait(ctx, fmt.Sprintf("block %d of snapshot %s", b.index, snapshot), nil, func(ctx context.Context) (bool, string, error) {
		data, err = c.getBlock(ctx, snapshot, b, size)
		spoilt, ok := errors.AsType[*spoiltBlock](err)
		if left--; ok && left > 0 {
			return false, spoilt.Error(), nil
		}
		return err == nil, "", err
	})
	if _, ok := errors.AsType[*spoiltBlock](err); ok {
		return nil, hint.Wrap(err, "check the snapshot again; if it comes back, look at what is between this machine and the endpoint")
	}
	return data, err
}

// spoiltBlock says that a block did not come as the cloud sent it.
type spoiltBlock struct{ error }

func (e *spoiltBlock) Unwrap() error { return e.error }

// getBlock asks for one block, and compares it with the cloud's own checksum.
func (c *Client) getBlock(ctx context.Context, snapshot string, b block, size int64) ([]byte, error) {
	out, err := c.ebs.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
		SnapshotId: aws.String(snapshot), BlockIndex: aws.Int32(b.index), BlockToken: aws.String(b.token),
	})
	if err != nil {
		return nil, fail(err, "read block %d of snapshot %s", b.index, snapshot)
	}
	defer out.BlockData.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(out.BlockData, size+1))
	if err != nil {
		return nil, &spoiltBlock{fail(err, "read block %d of snapshot %s", b.index, snapshot)}
	}
	sum := sha256.Sum256(data)
	if int64(len(data)) != size || out.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 ||
		base64.StdEncoding.EncodeToString(sum[:]) != aws.ToString(out.Checksum) {
		return nil, &spoiltBlock{fmt.Errorf("block %d of snapshot %s came with %d bytes that do not have the checksum which the cloud says", b.index, snapshot, len(data))}
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

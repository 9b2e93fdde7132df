package localcloud_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

const block = 512 << 10

func ebsClient(t *testing.T, c *ec2.Client, dir string) *ebs.Client {
	t.Helper()
	return ebs.NewFromConfig(load(t, dir), func(o *ebs.Options) { o.BaseEndpoint = c.Options().BaseEndpoint })
}

func blockOf(fill byte) []byte { return bytes.Repeat([]byte{fill}, block) }

func sum(b []byte) *string {
	s := sha256.Sum256(b)
	return aws.String(base64.StdEncoding.EncodeToString(s[:]))
}

// wantReason fails the test unless err is a ValidationException of that reason.
func wantReason(t *testing.T, err error, reason ebstypes.ValidationExceptionReason) {
	t.Helper()
	v, ok := errors.AsType[*ebstypes.ValidationException](err)
	if !ok || v.Reason != reason {
		t.Errorf("got %v, want a validation exception with the reason %s", err, reason)
	}
}

func TestBlocksOfSnapshots(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir))
	b, ctx := ebsClient(t, c, dir), t.Context()
	vol := createVolume(t, c, 1)
	path := volumePath(dir, *vol.VolumeId)
	write(t, path, 0, blockOf(1))
	write(t, path, 9*block+100, []byte("in the tenth"))
	write(t, path, 1<<30-block, blockOf(3))
	snapshot := func() *string {
		return must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: vol.VolumeId})).SnapshotId
	}
	first := snapshot()
	write(t, path, 9*block+100, []byte("in the TENTH"))
	write(t, path, 20*block, blockOf(4))
	write(t, path, 0, blockOf(1)) // the same again
	second := snapshot()

	list := must[*ebs.ListSnapshotBlocksOutput](t)(b.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: first}))
	if len(list.Blocks) != 3 || *list.Blocks[1].BlockIndex != 9 || *list.Blocks[2].BlockIndex != 2047 || *list.VolumeSize != 1 || *list.BlockSize != block {
		t.Errorf("blocks: %+v", list)
	}
	get := func(snap, token *string, index int32) []byte {
		t.Helper()
		out := must[*ebs.GetSnapshotBlockOutput](t)(b.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: snap, BlockIndex: &index, BlockToken: token}))
		raw := must[[]byte](t)(io.ReadAll(out.BlockData))
		if *out.Checksum != *sum(raw) || *out.DataLength != block {
			t.Errorf("block %d: checksum %s, length %d", index, *out.Checksum, *out.DataLength)
		}
		return raw
	}
	if got := get(first, list.Blocks[1].BlockToken, 9); string(got[100:112]) != "in the tenth" || got[0] != 0 {
		t.Errorf("the tenth block: %q", got[90:120])
	}
	changed := must[*ebs.ListChangedBlocksOutput](t)(b.ListChangedBlocks(ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: first, SecondSnapshotId: second})).ChangedBlocks
	if len(changed) != 2 || *changed[0].BlockIndex != 9 || *changed[1].BlockIndex != 20 || changed[1].FirstBlockToken != nil || changed[0].FirstBlockToken == nil {
		t.Errorf("changed: %+v", changed)
	}
	if got := get(second, changed[0].SecondBlockToken, 9); string(got[100:112]) != "in the TENTH" {
		t.Errorf("the tenth block later: %q", got[90:120])
	}

	_, err := b.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: first, BlockIndex: aws.Int32(0), BlockToken: list.Blocks[1].BlockToken})
	wantReason(t, err, ebstypes.ValidationExceptionReasonInvalidBlockToken)
	_, err = b.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: first, NextToken: aws.String("x")})
	wantReason(t, err, ebstypes.ValidationExceptionReasonInvalidPageToken)
	_, err = b.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String("snap-0123456789abcdef0")})
	if e, ok := errors.AsType[*ebstypes.ResourceNotFoundException](err); !ok || e.Reason != ebstypes.ResourceNotFoundExceptionReasonSnapshotNotFound {
		t.Errorf("an unknown snapshot: %v", err)
	}
}

func TestBlockPages(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir))
	b := ebsClient(t, c, dir)
	vol := createVolume(t, c, 1)
	for i := range int64(250) {
		write(t, volumePath(dir, *vol.VolumeId), i*2*block, []byte{1})
	}
	snap := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: vol.VolumeId}))
	pages := ebs.NewListSnapshotBlocksPaginator(b, &ebs.ListSnapshotBlocksInput{SnapshotId: snap.SnapshotId, MaxResults: aws.Int32(100), StartingBlockIndex: aws.Int32(3)})
	n, seen, last := 0, 0, int32(3)
	for pages.HasMorePages() {
		n++
		for _, bl := range must[*ebs.ListSnapshotBlocksOutput](t)(pages.NextPage(t.Context())).Blocks {
			if *bl.BlockIndex%2 != 0 || *bl.BlockIndex <= last {
				t.Errorf("block %d after %d", *bl.BlockIndex, last)
			}
			last = *bl.BlockIndex
			seen++
		}
	}
	if n != 3 || seen != 248 {
		t.Errorf("%d blocks on %d pages, want 248 on 3", seen, n)
	}
}

func TestSnapshotWrittenBlockByBlock(t *testing.T) {
	dir := t.TempDir()
	c, stop := start(t, testConfig(dir))
	b, ctx := ebsClient(t, c, dir), t.Context()
	begin := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: aws.String("once"), Tags: []ebstypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}
	snap := must[*ebs.StartSnapshotOutput](t)(b.StartSnapshot(ctx, begin))
	if again := must[*ebs.StartSnapshotOutput](t)(b.StartSnapshot(ctx, begin)); *again.SnapshotId != *snap.SnapshotId || snap.Status != ebstypes.StatusPending {
		t.Errorf("the same token: %s, %s, %s", *snap.SnapshotId, *again.SnapshotId, snap.Status)
	}
	put := func(index int32, data []byte, check *string) error {
		_, err := b.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: snap.SnapshotId, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
			Checksum: check, ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	}
	for i := range int32(3) {
		if err := put(i*100, blockOf(byte(i)), sum(blockOf(byte(i)))); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, put(1, blockOf(1), sum(blockOf(2))), ebstypes.ValidationExceptionReasonInvalidBlock)
	wantReason(t, put(2048, blockOf(1), sum(blockOf(1))), ebstypes.ValidationExceptionReasonInvalidBlock)
	_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId})
	wantCode(t, err, "IncorrectState")

	stop() // what was written so far counts after a restart
	c, _ = start(t, testConfig(dir))
	b = ebsClient(t, c, dir)
	complete := func(n int32) error {
		_, err := b.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: snap.SnapshotId, ChangedBlocksCount: &n})
		return err
	}
	wantReason(t, complete(2), ebstypes.ValidationExceptionReasonInvalidParameterValue)
	if err := complete(3); err != nil {
		t.Fatal(err)
	}
	wantReason(t, put(1, blockOf(1), sum(blockOf(1))), ebstypes.ValidationExceptionReasonInvalidSnapshotId)
	vol := must[*ec2.CreateVolumeOutput](t)(c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId}))
	if got := read(t, volumePath(dir, *vol.VolumeId), 100*block, block); !bytes.Equal(got, blockOf(1)) {
		t.Error("the volume does not hold the block that was written")
	}

	child := must[*ebs.StartSnapshotOutput](t)(b.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: snap.SnapshotId}))
	snap.SnapshotId = child.SnapshotId
	if err := put(100, blockOf(9), sum(blockOf(9))); err != nil {
		t.Fatal(err)
	}
	if err := complete(1); err != nil {
		t.Fatal(err)
	}
	changed := must[*ebs.ListChangedBlocksOutput](t)(b.ListChangedBlocks(ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: child.ParentSnapshotId, SecondSnapshotId: child.SnapshotId})).ChangedBlocks
	if len(changed) != 1 || *changed[0].BlockIndex != 100 {
		t.Errorf("changed from the parent: %+v", changed)
	}
}

func TestBlocksNeedASignatureAndPermission(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.Denied = []string{"ebs:Start*"}
	c, _ := start(t, cfg)
	b := ebsClient(t, c, dir)
	_, err := b.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	wantCode(t, err, "AccessDeniedException")
	bad := load(t, dir)
	key, err := bad.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKeyID, "wrong", "")
	b = ebs.NewFromConfig(bad, func(o *ebs.Options) { o.BaseEndpoint = c.Options().BaseEndpoint })
	_, err = b.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String("snap-0123456789abcdef0")})
	wantCode(t, err, "InvalidSignatureException")
}

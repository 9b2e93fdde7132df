package localcloud_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"rehost/localcloud"
)

// anySnapshot has the form of a snapshot's id.
var anySnapshot = aws.String("snap-0123456789abcdef0")

func startTroubled(t *testing.T, faults localcloud.Faults) *ebs.Client {
	t.Helper()
	cfg := testConfig(t.TempDir())
	cfg.Faults = faults
	c, _ := start(t, cfg)
	return ebsClient(t, c, cfg.Dir)
}

// wantStatus fails the test unless err is the API error code with that HTTP status.
func wantStatus(t *testing.T, err error, code string, status int) {
	t.Helper()
	wantCode(t, err, code)
	if re, ok := errors.AsType[*awshttp.ResponseError](err); !ok || re.HTTPStatusCode() != status {
		t.Errorf("got %v, want status %d", err, status)
	}
}

func TestBlocksAreThrottled(t *testing.T) {
	b, ctx := startTroubled(t, localcloud.Faults{Throttle: 1}), t.Context()
	_, err := b.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: anySnapshot})
	wantStatus(t, err, "ThrottlingException", http.StatusBadRequest)
	_, err = b.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: anySnapshot, BlockIndex: aws.Int32(0), BlockToken: aws.String("t")})
	wantStatus(t, err, "RequestThrottledException", http.StatusBadRequest)
	if e, ok := errors.AsType[*ebstypes.RequestThrottledException](err); !ok || e.Reason != ebstypes.RequestThrottledExceptionReasonResourceLevelThrottle {
		t.Errorf("got %v, want the reason %s", err, ebstypes.RequestThrottledExceptionReasonResourceLevelThrottle)
	}
}

func TestBlocksFail(t *testing.T) {
	b := startTroubled(t, localcloud.Faults{Fail: 1})
	failed := 0
	for range 20 {
		_, err := b.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: anySnapshot})
		if _, unknown := errors.AsType[*ebstypes.ResourceNotFoundException](err); unknown {
			continue // half of the troubles are for calls that were done, and this one cannot be
		}
		failed++
		wantStatus(t, err, "InternalServerException", http.StatusInternalServerError)
	}
	if failed == 0 {
		t.Error("no call failed")
	}
}

// TestAnswersAboutBlocksAreLost loses the answers of calls that were done, each once.
func TestAnswersAboutBlocksAreLost(t *testing.T) {
	const delay = 20 * time.Millisecond
	b := startTroubled(t, localcloud.Faults{Lose: []string{"StartSnapshot", "PutSnapshotBlock", "GetSnapshotBlock"}, Delay: delay})
	ctx := t.Context()
	begin := func(token string) (*string, error) {
		out, err := b.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: &token})
		if err != nil {
			return nil, err
		}
		return out.SnapshotId, nil
	}
	wantLost := func(err error) {
		t.Helper()
		if re, ok := errors.AsType[*awshttp.ResponseError](err); err == nil || ok && re.HTTPStatusCode() > 0 {
			t.Errorf("got %v, want no answer", err)
		}
	}
	began := time.Now()
	_, err := begin("a")
	wantLost(err)
	if took := time.Since(began); took < delay {
		t.Errorf("the call took %s, want at least %s", took, delay)
	}
	_, err = begin("b")
	wantLost(err)
	snap := must[*string](t)(begin("a"))
	put := func(data []byte) error {
		_, err := b.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: snap, BlockIndex: aws.Int32(7), BlockData: bytes.NewReader(data), DataLength: aws.Int32(block),
			Checksum: sum(data), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	}
	wantLost(put(blockOf(1)))
	wantLost(put(blockOf(2))) // other data is another request
	if _, err := b.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: snap, ChangedBlocksCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	list := must[*ebs.ListSnapshotBlocksOutput](t)(b.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: snap}))
	if len(list.Blocks) != 1 || *list.Blocks[0].BlockIndex != 7 {
		t.Fatalf("the lost calls wrote %+v", list.Blocks)
	}
	in := &ebs.GetSnapshotBlockInput{SnapshotId: snap, BlockIndex: aws.Int32(7), BlockToken: list.Blocks[0].BlockToken}
	_, err = b.GetSnapshotBlock(ctx, in, func(o *ebs.Options) {
		// On a connection that was in use before, Go's transport would repeat a GET by itself.
		o.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	})
	wantLost(err)
	out := must[*ebs.GetSnapshotBlockOutput](t)(b.GetSnapshotBlock(ctx, in))
	if got := must[[]byte](t)(io.ReadAll(out.BlockData)); !bytes.Equal(got, blockOf(2)) {
		t.Error("the block is not the one that was written last")
	}
}

package cloud_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"

	"rehost/internal/cloud"
	"rehost/internal/hint"
)

const (
	blockBytes = 512 << 10
	granule    = 16 << 10
)

// blocks is a snapshot: what was written, by block. It answers the EBS direct APIs, two blocks a page.
type blocks struct {
	data    map[int][]byte
	flip    bool // a bit on the way
	refused int  // calls that are refused before one succeeds
}

func (b *blocks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/snapshots/"), "/")
	if path[0] != "snap-1" {
		b.refuse(w, http.StatusNotFound, "ResourceNotFoundException")
		return
	}
	if b.refused > 0 {
		b.refused--
		b.refuse(w, http.StatusBadRequest, "RequestThrottledException")
		return
	}
	if len(path) == 2 {
		b.list(w, r, path[1])
		return
	}
	i, err := strconv.Atoi(path[2])
	if err != nil || r.URL.Query().Get("blockToken") != "t"+path[2] {
		b.refuse(w, http.StatusBadRequest, "ValidationException")
		return
	}
	data := slices.Clone(b.data[i])
	sum := sha256.Sum256(data)
	if b.flip {
		data[7] ^= 1
	}
	w.Header().Set("x-amz-Data-Length", strconv.Itoa(len(data)))
	w.Header().Set("x-amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
	w.Header().Set("x-amz-Checksum-Algorithm", "SHA256")
	_, _ = w.Write(data)
}

func (b *blocks) list(w http.ResponseWriter, r *http.Request, what string) {
	from := 0
	for _, name := range []string{"pageToken", "nextToken"} {
		if t := r.URL.Query().Get(name); t != "" {
			from, _ = strconv.Atoi(t)
		}
	}
	all := slices.Sorted(maps.Keys(b.data))
	next := min(from+2, len(all))
	var items []map[string]any
	for _, i := range all[from:next] {
		items = append(items, map[string]any{"BlockIndex": i, "BlockToken": fmt.Sprint("t", i), "SecondBlockToken": fmt.Sprint("t", i)})
	}
	answer := map[string]any{"BlockSize": blockBytes, "VolumeSize": 1, "ExpiryTime": time.Now().Add(time.Hour).Unix()}
	answer[map[string]string{"blocks": "Blocks", "changedblocks": "ChangedBlocks"}[what]] = items
	if next < len(all) {
		answer["NextToken"] = strconv.Itoa(next)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (*blocks) refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"Message":%q}`, code)
}

// openBlocks opens the driver over a snapshot, and returns the hashes of a disk that it holds as a whole.
func openBlocks(t *testing.T) (*blocks, cloud.DiskHashes, *cloud.Client) {
	t.Helper()
	const size = 4*blockBytes - 1000 // the last granule is short
	disk := make([]byte, 4*blockBytes)
	b := &blocks{data: map[int][]byte{}}
	for _, i := range []int{0, 1, 3} { // the third was never written
		for at := i * blockBytes; at < (i+1)*blockBytes; at++ {
			disk[at] = byte(at * 31 >> 3)
		}
		b.data[i] = disk[i*blockBytes : (i+1)*blockBytes]
	}
	want := cloud.DiskHashes{SizeBytes: size, GranuleBytes: granule}
	for at := 0; at < size; at += granule {
		h := xxh3.Hash128(disk[at:min(at+granule, size)]).Bytes()
		want.Hashes = append(want.Hashes, h[:]...)
	}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	return b, want, openFake(t, cloud.Config{Endpoint: server.URL, Region: "local-1", MaxBackoff: 10 * time.Millisecond})
}

func TestASnapshotIsComparedWithHashes(t *testing.T) {
	b, want, c := openBlocks(t)
	b.refused = 2
	told := ""
	different := must[[]int64](t)(c.CheckSnapshot(t.Context(), "snap-1", want, func(d string) { told = d }))
	if len(different) > 0 || told != "3 of 3 blocks compared" {
		t.Errorf("an equal disk differs at %v; told %q", different, told)
	}
	// One bit in a written block, the last byte that counts, and something where the snapshot has nothing.
	b.data[1][3*granule] ^= 1
	b.data[3][blockBytes-1001] ^= 1
	want.Hashes[(2*blockBytes/granule+1)*16]++
	different = must[[]int64](t)(c.CheckSnapshot(t.Context(), "snap-1", want, nil))
	if diff := cmp.Diff([]int64{blockBytes + 3*granule, 2*blockBytes + granule, 4*blockBytes - granule}, different); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	b.data[3][blockBytes-1001] ^= 1
	b.data[3][blockBytes-1000] ^= 1 // beyond the disk
	if different = must[[]int64](t)(c.CheckSnapshot(t.Context(), "snap-1", want, nil)); len(different) != 2 {
		t.Errorf("what is beyond the disk counts: %v", different)
	}
}

func TestASnapshotThatCannotBeCompared(t *testing.T) {
	b, want, c := openBlocks(t)
	if _, err := c.CheckSnapshot(t.Context(), "snap-2", want, nil); !cloud.NotFound(err) {
		t.Errorf("an unknown snapshot: %v", err)
	}
	short := want
	short.Hashes = short.Hashes[16:]
	if _, err := c.CheckSnapshot(t.Context(), "snap-1", short, nil); err == nil {
		t.Error("too few hashes were taken")
	}
	b.flip = true
	if _, err := c.CheckSnapshot(t.Context(), "snap-1", want, nil); err == nil || !strings.Contains(err.Error(), "checksum") || hint.Of(err) == "" {
		t.Errorf("a bit flipped on the way: %v", err)
	}
}

func TestChangedBlocks(t *testing.T) {
	_, _, c := openBlocks(t)
	offsets, size, err := c.ChangedBlocks(t.Context(), "snap-0", "snap-1")
	ok(t, err)
	if diff := cmp.Diff([]int64{0, blockBytes, 3 * blockBytes}, offsets); diff != "" || size != blockBytes {
		t.Errorf("blocks of %d bytes (-want +got):\n%s", size, diff)
	}
}

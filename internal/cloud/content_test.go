package cloud_test

import (
	"bytes"
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
	"sync"
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
	flips   int    // blocks in which a bit flips on the way
	torn    int    // blocks whose answer ends in the middle
	refused int    // calls that are refused before one succeeds
	denied  string // code that every call is refused with
	expired bool   // tokens are good for the listing that gave them out alone, and said to expire now
	lists   int
	empty   int // pages that hold nothing, though there are more

	mu sync.Mutex
}

func (b *blocks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/snapshots/"), "/")
	if path[0] != "snap-1" {
		b.refuse(w, http.StatusNotFound, "ResourceNotFoundException")
		return
	}
	if b.denied != "" {
		b.refuse(w, http.StatusForbidden, b.denied)
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
	if err != nil || r.URL.Query().Get("blockToken") != b.token(path[2]) {
		b.refuse(w, http.StatusBadRequest, "ValidationException")
		return
	}
	data := slices.Clone(b.data[i])
	sum := sha256.Sum256(data)
	if b.flips > 0 {
		b.flips--
		data[7] ^= 1
	}
	w.Header().Set("x-amz-Data-Length", strconv.Itoa(len(data)))
	w.Header().Set("x-amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
	w.Header().Set("x-amz-Checksum-Algorithm", "SHA256")
	if b.torn > 0 {
		b.torn--
		_, _ = w.Write(data[:len(data)/2])
		panic(http.ErrAbortHandler) // cuts the connection
	}
	_, _ = w.Write(data)
}

func (b *blocks) list(w http.ResponseWriter, r *http.Request, what string) {
	from := 0
	for _, name := range []string{"pageToken", "nextToken"} {
		if t := r.URL.Query().Get(name); t != "" {
			from, _ = strconv.Atoi(t)
		}
	}
	b.lists++
	all := slices.Sorted(maps.Keys(b.data))
	if first, err := strconv.Atoi(r.URL.Query().Get("startingBlockIndex")); err == nil {
		all = slices.DeleteFunc(all, func(i int) bool { return i < first })
	}
	next := min(from+2, len(all))
	if b.empty > 0 {
		b.empty--
		next = from
	}
	var items []map[string]any
	for _, i := range all[from:next] {
		items = append(items, map[string]any{"BlockIndex": i, "BlockToken": b.token(strconv.Itoa(i)), "SecondBlockToken": b.token(strconv.Itoa(i))})
	}
	answer := map[string]any{"BlockSize": blockBytes, "VolumeSize": 1, "ExpiryTime": time.Now().Add(7 * 24 * time.Hour).Unix()}
	if b.expired {
		answer["ExpiryTime"] = time.Now().Unix()
	}
	answer[map[string]string{"blocks": "Blocks", "changedblocks": "ChangedBlocks"}[what]] = items
	if next < len(all) {
		answer["NextToken"] = strconv.Itoa(next)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// token is the one of a block; mu is held.
func (b *blocks) token(block string) string {
	if b.expired {
		return fmt.Sprint("t", block, " of listing ", b.lists)
	}
	return "t" + block
}

func (*blocks) refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"Message":%q}`, code)
}

// openBlocks opens the driver over a snapshot, and returns what it holds as a whole.
func openBlocks(t *testing.T) (*blocks, []byte, *cloud.Client) {
	t.Helper()
	disk := make([]byte, 4*blockBytes)
	b := &blocks{data: map[int][]byte{}}
	for _, i := range []int{0, 1, 3} { // the third was never written
		for at := i * blockBytes; at < (i+1)*blockBytes; at++ {
			disk[at] = byte(at * 31 >> 3)
		}
		b.data[i] = slices.Clone(disk[i*blockBytes : (i+1)*blockBytes])
	}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	return b, disk, openFake(t, cloud.Config{Endpoint: server.URL, Region: "local-1", MaxBackoff: 10 * time.Millisecond, Poll: time.Millisecond})
}

// hashesOf are the hashes of a range, worked out in the plainest way.
func hashesOf(disk []byte, offset, length int) (out []byte) {
	for at := offset; at < offset+length; at += granule {
		h := xxh3.Hash128(disk[at:min(at+granule, offset+length)]).Bytes()
		out = append(out, h[:]...)
	}
	return out
}

func TestHashesOfASnapshot(t *testing.T) {
	b, disk, c := openBlocks(t)
	b.refused = 2
	for _, r := range [][2]int{
		{0, 4*blockBytes - 1000}, // across what was never written; the last granule is short
		{0, granule}, {blockBytes - granule, 2 * granule}, {2 * blockBytes, blockBytes}, {3 * blockBytes, granule / 2}, {0, 4 * blockBytes},
	} {
		got := must[[]byte](t)(c.SnapshotHashes(t.Context(), "snap-1", int64(r[0]), int64(r[1]), granule))
		if !bytes.Equal(got, hashesOf(disk, r[0], r[1])) {
			t.Errorf("%d bytes at %d have other hashes", r[1], r[0])
		}
	}
	b.data[1][3*granule] ^= 1
	got := must[[]byte](t)(c.SnapshotHashes(t.Context(), "snap-1", blockBytes, blockBytes, granule))
	want := hashesOf(disk, blockBytes, blockBytes)
	for i := 0; i < len(want); i += 16 {
		if same := bytes.Equal(got[i:i+16], want[i:i+16]); same != (i != 3*16) {
			t.Errorf("granule %d: equal is %v", i/16, same)
		}
	}
}

// TestAPageWithoutBlocksIsNotTheEnd: EBS may answer with less than it was asked for, and with nothing, while there is more.
func TestAPageWithoutBlocksIsNotTheEnd(t *testing.T) {
	b, disk, c := openBlocks(t)
	b.empty = 3
	if got := must[[]byte](t)(c.SnapshotHashes(t.Context(), "snap-1", 0, 4*blockBytes, granule)); !bytes.Equal(got, hashesOf(disk, 0, 4*blockBytes)) || b.empty > 0 {
		t.Errorf("other hashes came, or %d empty pages are still to come", b.empty)
	}
}

// TestTokensOfBlocksExpire reads a snapshot again, as one does that is compared once a week.
func TestTokensOfBlocksExpire(t *testing.T) {
	b, disk, c := openBlocks(t)
	read := func() {
		t.Helper()
		if got := must[[]byte](t)(c.SnapshotHashes(t.Context(), "snap-1", 0, blockBytes, granule)); !bytes.Equal(got, hashesOf(disk, 0, blockBytes)) {
			t.Error("other hashes came")
		}
	}
	read()
	read()
	if b.lists != 1 {
		t.Errorf("%d listings, want 1 that is kept", b.lists)
	}
	b, disk, c = openBlocks(t)
	b.expired = true
	read()
	b.lists++ // the tokens of the listing before are good no more
	read()
}

// TestABlockThatWasSpoiltOnTheWayIsReadAgain: what the SDK repeats ends with the answer's head.
func TestABlockThatWasSpoiltOnTheWayIsReadAgain(t *testing.T) {
	for name, spoil := range map[string]func(*blocks){"torn": func(b *blocks) { b.torn = 2 }, "flipped": func(b *blocks) { b.flips = 2 }} {
		t.Run(name, func(t *testing.T) {
			b, disk, c := openBlocks(t)
			spoil(b)
			got := must[[]byte](t)(c.SnapshotHashes(t.Context(), "snap-1", 0, 4*blockBytes, granule))
			if !bytes.Equal(got, hashesOf(disk, 0, 4*blockBytes)) || b.torn+b.flips > 0 {
				t.Errorf("other hashes came, or %d blocks are still to be spoilt", b.torn+b.flips)
			}
		})
	}
}

func TestASnapshotThatCannotBeRead(t *testing.T) {
	b, _, c := openBlocks(t)
	if _, err := c.SnapshotHashes(t.Context(), "snap-2", 0, granule, granule); !cloud.NotFound(err) {
		t.Errorf("an unknown snapshot: %v", err)
	}
	for _, r := range [][3]int64{{1, granule, granule}, {0, 0, granule}, {0, granule, granule + 1}, {0, granule, 0}, {-granule, granule, granule}, {0, 2 << 20, 1 << 20}} {
		if _, err := c.SnapshotHashes(t.Context(), "snap-1", r[0], r[1], r[2]); err == nil {
			t.Errorf("%d bytes at %d in granules of %d were read", r[1], r[0], r[2])
		}
	}
	b.flips = 1000
	if _, err := c.SnapshotHashes(t.Context(), "snap-1", 0, granule, granule); err == nil || !strings.Contains(err.Error(), "checksum") || hint.Of(err) == "" {
		t.Errorf("a bit flipped on the way: %v", err)
	}
}

func TestARefusalToReadASnapshotSaysWhatToDo(t *testing.T) {
	b, _, c := openBlocks(t)
	for code, advice := range map[string]string{
		"AccessDeniedException": "ebs:ListSnapshotBlocks", "InvalidSignatureException": "the clock", "UnrecognizedClientException": "the access key", "ExpiredTokenException": "renew",
	} {
		b.denied = code
		_, err := c.SnapshotHashes(t.Context(), "snap-1", 0, granule, granule)
		if !strings.Contains(hint.Of(err), advice) || cloud.Permanent(err) == cloud.Expired(err) {
			t.Errorf("%s: %v, hint %q, permanent %v", code, err, hint.Of(err), cloud.Permanent(err))
		}
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

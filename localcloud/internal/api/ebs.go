package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// The EBS direct APIs are a service of their own, with JSON and with paths
// instead of action names. They share the endpoint, since their paths say
// which service is meant.

// ebsCall is a call of the EBS direct APIs: the request and its body.
type ebsCall struct {
	*http.Request
	body []byte
	err  error // of the first value that cannot be read
}

// ebsAnswer is what a call returns: JSON, or a block, with headers.
type ebsAnswer struct {
	status int
	header map[string]string
	json   any
	block  []byte
}

type ebsAction func(ctx context.Context, s *Server, c *ebsCall) (*ebsAnswer, error)

// ebsActions are the calls on offer, by method and path.
var ebsActions = map[string]struct {
	name string
	act  ebsAction
}{
	"GET /snapshots/{id}/blocks":         {"ListSnapshotBlocks", listBlocks},
	"GET /snapshots/{id}/changedblocks":  {"ListChangedBlocks", listChanged},
	"GET /snapshots/{id}/blocks/{index}": {"GetSnapshotBlock", getBlock},
	"PUT /snapshots/{id}/blocks/{index}": {"PutSnapshotBlock", putBlock},
	"POST /snapshots":                    {"StartSnapshot", startSnapshot},
	"POST /snapshots/completion/{id}":    {"CompleteSnapshot", completeSnapshot},
}

// ebsHandler routes the calls of the EBS direct APIs.
func (s *Server) ebsHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, a := range ebsActions {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := s.callEBS(r, a.name, a.act)
			if err != nil {
				s.failEBS(w, a.name, err)
				return
			}
			answer.write(w)
		})
	}
	return mux
}

func (s *Server) callEBS(r *http.Request, name string, act ebsAction) (*ebsAnswer, error) {
	body, err := readBody(r)
	if err == nil {
		err = s.Credentials.verify(r, body, "ebs", time.Now())
	}
	if err != nil {
		return nil, err
	}
	request := r.URL.Query()
	request.Set("path", r.URL.Path)
	request.Set("body", checksum(body))
	return troubled(r.Context(), s.Faults, name, request, func() (*ebsAnswer, error) {
		if err := s.authorize("ebs", name); err != nil {
			return nil, err
		}
		c := &ebsCall{Request: r, body: body}
		answer, err := act(r.Context(), s, c)
		return answer, errors.Join(c.err, err)
	})
}

// ebsTrouble says a trouble that has EC2's name as the EBS direct APIs say it: they throttle with status 400, blocks by
// their snapshot and everything else by the account.
func ebsTrouble(action string, f *fault.Error) *fault.Error {
	switch f.Code {
	case "RequestLimitExceeded":
		if action == "GetSnapshotBlock" || action == "PutSnapshotBlock" {
			return fault.New("RequestThrottledException:RESOURCE_LEVEL_THROTTLE", "%s", f.Message)
		}
		return fault.New("ThrottlingException", "%s", f.Message)
	case "InternalError":
		return &fault.Error{Code: "InternalServerException", Message: f.Message, Status: f.Status}
	}
	return f
}

func (a *ebsAnswer) write(w http.ResponseWriter) {
	raw := a.block
	if a.json != nil {
		raw, _ = json.Marshal(a.json) // of types that can be marshalled
		w.Header().Set("Content-Type", "application/json")
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(max(a.status, http.StatusOK))
	_, _ = w.Write(raw)
}

func (s *Server) failEBS(w http.ResponseWriter, name string, err error) {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		s.Log.Error("call did not succeed", "action", name, "error", err)
		f = &fault.Error{Code: "InternalServerException", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	f = ebsTrouble(name, f)
	s.Log.Debug("call refused", "action", name, "code", f.Code, "message", f.Message)
	code, reason, _ := strings.Cut(f.Code, ":")
	answer := ebsAnswer{status: f.HTTPStatus(), header: map[string]string{"X-Amzn-Errortype": code}, json: struct {
		Message string
		Reason  string `json:",omitempty"`
	}{f.Message, reason}}
	answer.write(w)
}

func (c *ebsCall) invalid(reason, format string, args ...any) {
	if c.err == nil {
		c.err = fault.New("ValidationException:"+reason, format, args...)
	}
}

// number reads a number from a parameter, or returns what stands for none.
func (c *ebsCall) number(name, value string, none int64) int64 {
	if value == "" {
		return none
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		c.invalid("INVALID_PARAMETER_VALUE", "%s is not a number: '%s'", name, value)
	}
	return n
}

// blockToken stands for a block in a snapshot; only a listing gives it out.
func blockToken(snapshot string, index int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "block %s %d", snapshot, index))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const (
	// fewestBlocks and mostBlocks are the limits of a page.
	fewestBlocks, mostBlocks = 100, 10000
	// tokenLife is how long EC2's block tokens are good; ours always are.
	tokenLife = 7 * 24 * time.Hour
)

// page reads where a listing goes on and how much of it is wanted.
func (c *ebsCall) page() (from int64, most int) {
	q := c.URL.Query()
	from = c.number("startingBlockIndex", q.Get("startingBlockIndex"), 0)
	limit := c.number("maxResults", q.Get("maxResults"), mostBlocks)
	if limit < fewestBlocks || limit > mostBlocks {
		c.invalid("INVALID_PARAMETER_VALUE", "maxResults must be %d to %d.", fewestBlocks, mostBlocks)
	}
	if token := q.Get("pageToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		rest, ok := strings.CutPrefix(string(raw), "from ")
		if n, bad := strconv.ParseInt(rest, 10, 64); err == nil && ok && bad == nil {
			from = n
		} else {
			c.invalid("INVALID_PAGE_TOKEN", "The page token is not valid.")
		}
	}
	return from, int(limit)
}

// listing is what both listings say beside their blocks.
type listing struct {
	ExpiryTime float64
	VolumeSize int64
	BlockSize  int
	NextToken  string `json:",omitempty"`
}

func newListing(n *state.Snapshot, next int64) listing {
	l := listing{ExpiryTime: epoch(time.Now().Add(tokenLife)), VolumeSize: n.SizeGiB, BlockSize: cloud.BlockSize}
	if next >= 0 {
		l.NextToken = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "from %d", next))
	}
	return l
}

// epoch is a time as JSON services write it.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func listBlocks(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	from, most := c.page()
	if c.err != nil {
		return nil, c.err
	}
	id := c.PathValue("id")
	n, blocks, next, err := s.Cloud.Blocks(id, from, most)
	if err != nil {
		return nil, err
	}
	type block struct {
		BlockIndex int64
		BlockToken string
	}
	out := struct {
		Blocks []block
		listing
	}{[]block{}, newListing(n, next)}
	for _, i := range blocks {
		out.Blocks = append(out.Blocks, block{i, blockToken(id, i)})
	}
	return &ebsAnswer{json: out}, nil
}

func listChanged(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	from, most := c.page()
	first, second := c.URL.Query().Get("firstSnapshotId"), c.PathValue("id")
	if first == "" && c.err == nil {
		// Without a first one it is a listing of everything.
		return listEverything(s, second, from, most)
	}
	if c.err != nil {
		return nil, c.err
	}
	n, blocks, next, err := s.Cloud.ChangedBlocks(first, second, from, most)
	if err != nil {
		return nil, err
	}
	out := changedListing{[]changedBlock{}, newListing(n, next)}
	for _, ch := range blocks {
		b := changedBlock{BlockIndex: ch.Index}
		if ch.First {
			b.FirstBlockToken = blockToken(first, ch.Index)
		}
		if ch.Second {
			b.SecondBlockToken = blockToken(second, ch.Index)
		}
		out.ChangedBlocks = append(out.ChangedBlocks, b)
	}
	return &ebsAnswer{json: out}, nil
}

type changedBlock struct {
	BlockIndex                        int64
	FirstBlockToken, SecondBlockToken string `json:",omitempty"`
}

type changedListing struct {
	ChangedBlocks []changedBlock
	listing
}

func listEverything(s *Server, id string, from int64, most int) (*ebsAnswer, error) {
	n, blocks, next, err := s.Cloud.Blocks(id, from, most)
	if err != nil {
		return nil, err
	}
	out := changedListing{[]changedBlock{}, newListing(n, next)}
	for _, i := range blocks {
		out.ChangedBlocks = append(out.ChangedBlocks, changedBlock{BlockIndex: i, SecondBlockToken: blockToken(id, i)})
	}
	return &ebsAnswer{json: out}, nil
}

const (
	lengthHeader    = "X-Amz-Data-Length"
	checksumHeader  = "X-Amz-Checksum"
	algorithmHeader = "X-Amz-Checksum-Algorithm"
	checksumName    = "SHA256"
)

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func getBlock(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	id, index := c.PathValue("id"), c.number("blockIndex", c.PathValue("index"), -1)
	if c.err != nil {
		return nil, c.err
	}
	b, err := s.Cloud.ReadBlock(id, index)
	if err != nil {
		return nil, err
	}
	if c.URL.Query().Get("blockToken") != blockToken(id, index) {
		return nil, fault.New("ValidationException:INVALID_BLOCK_TOKEN", "The block token is not one of this block.")
	}
	return &ebsAnswer{block: b, header: map[string]string{
		lengthHeader: strconv.Itoa(len(b)), checksumHeader: checksum(b), algorithmHeader: checksumName, "Content-Type": "application/octet-stream",
	}}, nil
}

func putBlock(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	index := c.number("blockIndex", c.PathValue("index"), -1)
	if c.number(lengthHeader, c.Header.Get(lengthHeader), -1) != int64(len(c.body)) {
		c.invalid("INVALID_BLOCK", "The body has %d bytes, the header says %s.", len(c.body), c.Header.Get(lengthHeader))
	}
	if c.Header.Get(algorithmHeader) != checksumName || c.Header.Get(checksumHeader) != checksum(c.body) {
		c.invalid("INVALID_BLOCK", "The block is not the one that the checksum is of.")
	}
	if c.err != nil {
		return nil, c.err
	}
	if err := s.Cloud.PutBlock(c.PathValue("id"), index, c.body); err != nil {
		return nil, err
	}
	return &ebsAnswer{status: http.StatusCreated, json: struct{}{}, header: map[string]string{checksumHeader: checksum(c.body), algorithmHeader: checksumName}}, nil
}

type ebsTag struct{ Key, Value string }

func startSnapshot(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	var in struct {
		VolumeSize                          int64
		ParentSnapshotID                    string `json:"ParentSnapshotId"`
		Description, ClientToken, KmsKeyArn string
		Encrypted                           bool
		Tags                                []ebsTag
	}
	if err := json.NewDecoder(bytes.NewReader(c.body)).Decode(&in); err != nil {
		return nil, fault.New("ValidationException:INVALID_PARAMETER_VALUE", "The request is not the JSON of StartSnapshot: %s", err)
	}
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[t.Key] = t.Value
	}
	sum := sha256.Sum256(c.body)
	n, err := s.Cloud.StartSnapshot(cloud.UploadRequest{
		SizeGiB: in.VolumeSize, Parent: in.ParentSnapshotID, Description: in.Description, Encrypted: in.Encrypted, KMSKeyID: in.KmsKeyArn,
		Tags: tags, Token: in.ClientToken, Digest: base64.StdEncoding.EncodeToString(sum[:]),
	})
	if err != nil {
		return nil, err
	}
	return &ebsAnswer{status: http.StatusCreated, json: struct {
		SnapshotID       string `json:"SnapshotId"`
		OwnerID          string `json:"OwnerId"`
		ParentSnapshotID string `json:"ParentSnapshotId,omitempty"`
		Description      string `json:",omitempty"`
		KmsKeyArn        string `json:",omitempty"`
		Status           string
		StartTime        float64
		VolumeSize       int64
		BlockSize        int
		Tags             []ebsTag
	}{n.ID, s.Cloud.Account, n.Parent, n.Description, n.KMSKeyID, "pending", epoch(n.Created), n.SizeGiB, cloud.BlockSize, in.Tags}}, nil
}

func completeSnapshot(_ context.Context, s *Server, c *ebsCall) (*ebsAnswer, error) {
	const header = "X-Amz-Changedblockscount"
	changed := c.number(header, c.Header.Get(header), -1)
	if changed < 0 {
		c.invalid("INVALID_PARAMETER_VALUE", "ChangedBlocksCount is missing.")
	}
	if c.err != nil {
		return nil, c.err
	}
	if err := s.Cloud.CompleteSnapshot(c.PathValue("id"), int(changed)); err != nil {
		return nil, err
	}
	return &ebsAnswer{status: http.StatusAccepted, json: struct{ Status string }{"completed"}}, nil
}

package apply

import (
	"encoding/json"
	"testing"

	"rehost/protocol"
)

const testSize = 1 << 20

var (
	sessionA = protocol.Session{0xa}
	sessionB = protocol.Session{0xb}
	sessionC = protocol.Session{0xc}
)

func at(s protocol.Session, seq uint64) protocol.Position {
	return protocol.Position{Session: s, Seq: seq, Digest: protocol.Digest{byte(seq)}}
}

func blocks(s protocol.Session, seq uint64, extents ...protocol.Extent) *protocol.Frame {
	return &protocol.Frame{
		Type: protocol.FrameBlocks, Server: protocol.ServerKey("web-1"), Session: s, Seq: seq, Prev: protocol.Digest{byte(seq - 1)}, Extents: extents,
	}
}

// testEpoch is the epoch of the last session that a test's chain has accepted, and is where a hello's starts.
const testEpoch = 100

func hello(t *testing.T, s protocol.Session, change func(*protocol.Hello)) *protocol.Frame {
	t.Helper()
	h := protocol.Hello{Epoch: testEpoch + 1, Server: "web-1", Generation: "g", Disks: []protocol.HelloDisk{{SizeBytes: testSize}}}
	change(&h)
	meta, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Frame{Type: protocol.FrameHello, Server: protocol.ServerKey("web-1"), Session: s, Seq: 1, Meta: meta}
}

func TestJudge(t *testing.T) {
	full := func(h *protocol.Hello) { h.Full = true }
	on := func(p protocol.Position) func(*protocol.Hello) { return func(h *protocol.Hello) { h.Base = p } }
	strange := blocks(sessionB, 6)
	strange.Server = protocol.ServerKey("other")
	forked := blocks(sessionB, 6)
	forked.Prev = protocol.Digest{0xff}
	cases := map[string]struct {
		frame *protocol.Frame
		want  action
		code  protocol.NakCode
	}{
		"the next frame":                  {blocks(sessionB, 6), take, ""},
		"a frame again":                   {blocks(sessionB, 5), ignore, ""},
		"the session's hello again":       {hello(t, sessionB, full), ignore, ""},
		"a frame too many":                {blocks(sessionB, 7), refuse, protocol.NakGap},
		"another history":                 {forked, refuse, protocol.NakDigest},
		"another server":                  {strange, refuse, protocol.NakMalformed},
		"an old session's frame":          {blocks(sessionA, 9), ignore, ""},
		"an old session that went on":     {blocks(sessionA, 10), ignore, ""},
		"an old session's hello":          {hello(t, sessionA, full), ignore, ""},
		"a session without a hello":       {blocks(sessionC, 2), refuse, protocol.NakGap},
		"a full session":                  {hello(t, sessionC, full), begin, ""},
		"a session on what is here":       {hello(t, sessionC, on(at(sessionB, 5))), begin, ""},
		"a session on an older one":       {hello(t, sessionC, on(at(sessionA, 3))), begin, ""},
		"a session on what is not here":   {hello(t, sessionC, on(at(sessionB, 6))), refuse, protocol.NakBaseUnknown},
		"a session on an unknown one":     {hello(t, sessionC, on(at(protocol.Session{0xd}, 1))), refuse, protocol.NakBaseUnknown},
		"a session on nothing":            {hello(t, sessionC, func(*protocol.Hello) {}), refuse, protocol.NakBaseUnknown},
		"a session of another generation": {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Generation = true, "x" }), refuse, protocol.NakMalformed},
		"a session of the same epoch":     {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Epoch = true, testEpoch }), outdated, protocol.NakStale},
		"a session that comes too late":   {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Epoch = true, 1 }), outdated, protocol.NakStale},
		"a session without an epoch":      {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Epoch = true, 0 }), outdated, protocol.NakStale},
		"too many disks":                  {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Disks = true, append(h.Disks, h.Disks...) }), refuse, protocol.NakGeometry},
		"a disk too large":                {hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Disks[0].SizeBytes = true, testSize+1 }), refuse, protocol.NakGeometry},
		"the last block":                  {blocks(sessionB, 6, protocol.Extent{Kind: protocol.ExtentZero, Offset: testSize - 512, Length: 512}), take, ""},
		"behind the last block":           {blocks(sessionB, 6, protocol.Extent{Kind: protocol.ExtentZero, Offset: testSize, Length: 512}), refuse, protocol.NakGeometry},
		"a disk that is not there":        {blocks(sessionB, 6, protocol.Extent{Kind: protocol.ExtentZero, Disk: 1, Length: 512}), refuse, protocol.NakGeometry},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := chain{server: "web-1", generation: "g", sizes: []int64{testSize}, epoch: testEpoch, position: at(sessionB, 5), lineage: []protocol.Position{at(sessionA, 9)}}
			if got := c.judge(tc.frame); got != tc.want {
				t.Fatalf("got action %d, want %d; nak %+v", got, tc.want, c.nak)
			}
			if tc.want != refuse && tc.want != outdated {
				return
			}
			if c.nak.Code != tc.code || c.nak.Session != tc.frame.Session {
				t.Fatalf("got nak %+v, want %s of %s", c.nak, tc.code, tc.frame.Session)
			}
			if again := c.judge(tc.frame); tc.code != protocol.NakMalformed && again != ignore {
				t.Fatalf("the refused session's next frame: action %d, want ignore", again)
			}
		})
	}
}

func TestARefusedSessionEndsAndTheNextBegins(t *testing.T) {
	c := chain{server: "web-1", generation: "g", sizes: []int64{testSize}, position: at(sessionB, 5)}
	if c.judge(blocks(sessionB, 7)) != refuse || c.judge(blocks(sessionB, 6)) != ignore {
		t.Fatal("a session with a gap goes on")
	}
	h := hello(t, sessionC, func(h *protocol.Hello) { h.Base = at(sessionB, 4) })
	if c.judge(h) != begin {
		t.Fatal("the next session is not accepted")
	}
	c.advance(h, protocol.Digest{1})
	if c.nak != nil || c.position != at(sessionC, 1) || len(c.lineage) != 1 || c.lineage[0] != at(sessionB, 5) {
		t.Fatalf("after the hello: %+v", c)
	}
	if c.judge(blocks(sessionC, 2)) != take {
		t.Fatal("the new session's first frame is not taken")
	}
}

// What sessions of another memory changed is known to nobody: neither may stand on what it had before.
func TestASessionOfAnotherOriginEndsWhatCameBefore(t *testing.T) {
	c := chain{server: "web-1", generation: "g", sizes: []int64{testSize}, epoch: testEpoch, position: at(sessionA, 5), origin: "a"}
	on := func(s protocol.Session, origin string, epoch uint64, full bool, base protocol.Position) *protocol.Frame {
		return hello(t, s, func(h *protocol.Hello) { h.Origin, h.Epoch, h.Full, h.Base = origin, epoch, full, base })
	}
	if c.judge(on(sessionB, "b", testEpoch+1, false, at(sessionA, 5))) != refuse || c.nak.Code != protocol.NakBaseUnknown {
		t.Fatalf("another memory stands on what it does not know: %+v", c.nak)
	}
	h := on(protocol.Session{0xe}, "b", testEpoch+2, true, protocol.Position{})
	if c.judge(h) != begin {
		t.Fatal("a full session is not accepted")
	}
	c.advance(h, protocol.Digest{1})
	if c.judge(blocks(sessionA, 6)) != ignore {
		t.Error("a frame of the session before is not ignored")
	}
	if c.judge(on(sessionC, "a", testEpoch+3, false, at(sessionA, 5))) != refuse || c.nak.Code != protocol.NakBaseUnknown {
		t.Error("the first memory stands on what another one has written over")
	}
}

func TestTheLineageIsBounded(t *testing.T) {
	c := chain{server: "web-1", generation: "g", sizes: []int64{testSize}, position: at(sessionB, 5)}
	for i := range 3 * maxLineage {
		h := hello(t, protocol.Session{1, byte(i)}, func(h *protocol.Hello) { h.Full, h.Epoch = true, uint64(i+1) })
		if c.judge(h) != begin {
			t.Fatal("not accepted")
		}
		c.advance(h, protocol.Digest{1})
	}
	if len(c.lineage) != maxLineage {
		t.Fatalf("%d sessions remembered, want %d", len(c.lineage), maxLineage)
	}
}

func TestALateSessionDoesNotDisturbTheCurrentOne(t *testing.T) {
	c := chain{server: "web-1", generation: "g", sizes: []int64{testSize}, epoch: testEpoch, position: at(sessionB, 5)}
	if got := c.judge(hello(t, sessionC, func(h *protocol.Hello) { h.Full, h.Epoch = true, testEpoch-1 })); got != outdated {
		t.Fatalf("a late hello: action %d, want outdated", got)
	}
	for seq := uint64(2); seq < 5; seq++ {
		if got := c.judge(blocks(sessionC, seq)); got != ignore {
			t.Fatalf("a late frame: action %d, want ignore", got)
		}
		if got := c.judge(blocks(sessionB, 6)); got != take {
			t.Fatalf("the current session's next frame: action %d, want take", got)
		}
	}
	if c.nak.Session != sessionC || c.nak.Code != protocol.NakStale || c.nak.Epoch != testEpoch || c.naks != 0 {
		t.Fatalf("nak %+v, %d naks; want stale, which counts as no fault", c.nak, c.naks)
	}
	// Another refusal takes the nak's place. The late session is in the dark no longer than until its next frame.
	c.refuse(sessionB, protocol.NakHash, "test")
	if c.judge(blocks(sessionC, 9)) != ignore || c.nak.Code != protocol.NakStale || c.nak.Session != sessionC {
		t.Fatalf("after another refusal: nak %+v", c.nak)
	}
	if got := c.judge(blocks(sessionB, 7)); got != refuse || c.nak.Session != sessionB {
		t.Fatalf("the current session's refusal is not said again: action %d, nak %+v", got, c.nak)
	}
}

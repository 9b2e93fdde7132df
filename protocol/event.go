package protocol

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EventTypePrefix is what the type of each event begins with.
const EventTypePrefix = "rehost."

// Types of events besides those of job logs.
const (
	EventLifecycle   = EventTypePrefix + "server.lifecycle"   // a server is in another lifecycle state; data: [Transition]
	EventReplication = EventTypePrefix + "server.replication" // its replication is in another state, and has been for a while; data: [Transition]
)

// JobEventType is the type of the events of one entry of job logs; data: [JobEventData].
func JobEventType(name JobEventName) string {
	return EventTypePrefix + "job." + strings.ToLower(string(name))
}

// Event is a CloudEvent (version 1.0 of its specification) in the JSON format: something that is recorded to have happened. The same
// one has the same ID whenever and however often it is told.
type Event struct {
	SpecVersion     string          `json:"specversion"` // "1.0"
	ID              string          `json:"id"`
	Source          string          `json:"source"` // "/rehost/servers/NAME" or "/rehost/jobs/ID": whose record says so
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"` // the server that it concerns; absent: all of a job
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"` // "application/json"
	Data            json.RawMessage `json:"data"`
}

// Transition is a server's way from one state to another one. A server's record keeps the newest ones, in the order in which they
// happened, each at a time of its own.
type Transition struct {
	At   time.Time      `json:"at"`
	What TransitionKind `json:"what"`
	From string         `json:"from"` // empty: the server was not known
	To   string         `json:"to"`
	Job  string         `json:"job,omitempty"` // that works on the server
}

// TransitionKind says which of a server's states changed.
type TransitionKind string

// Kinds of transitions.
const (
	TransitionLifecycle   TransitionKind = "lifecycle"
	TransitionReplication TransitionKind = "replication"
)

// JobEventData is what the events of a job say.
type JobEventData struct {
	Job  string    `json:"job"`
	Kind JobKind   `json:"kind"`
	Of   Selection `json:"of"`
	JobEvent
}

// About names what an event is about: a server, or a job as a whole. Events about the same thing are in order.
func (e Event) About() string {
	if e.Subject != "" {
		return EventsOfServer(e.Subject)
	}
	return "job." + e.Source[strings.LastIndexByte(e.Source, '/')+1:]
}

// EventsOfServer is what [Event.About] says of the events of a server.
func EventsOfServer(server string) string { return "server." + server }

// Is says whether an event's type is one of those that a pattern means: a type without its prefix ("job.job_end"), all types of a kind
// ("server.*", "job.*"), or all ("*").
func (e Event) Is(pattern string) bool {
	name := strings.TrimPrefix(e.Type, EventTypePrefix)
	kind, all := strings.CutSuffix(pattern, "*")
	return name == pattern || all && strings.HasPrefix(name, kind)
}

// failPattern are the types of what steps without an event of their own write into the log when they fail.
var failPattern = regexp.MustCompile(`^job\.[a-z]+_fail$`)

// CheckEventPattern says whether a pattern means any type at all.
func CheckEventPattern(pattern string) bool {
	if pattern == "*" || pattern == "server.*" || pattern == "job.*" || failPattern.MatchString(pattern) {
		return true
	}
	return slices.Contains(EventTypes(), EventTypePrefix+pattern)
}

// EventTypes lists the types of events, but those of steps without an event of their own that fail.
func EventTypes() []string {
	out := []string{EventLifecycle, EventReplication}
	for _, name := range JobEvents {
		out = append(out, JobEventType(name))
	}
	return out
}

// Told is the record of what was told of another record: the number of its newest event. Those of a job are counted from 1, those of a
// server are numbered by their time.
type Told struct {
	Number int64 `json:"number"`
}

// Number is the place of a transition among those of its server: nanoseconds since 1970.
func (t Transition) Number() int64 { return t.At.UnixNano() }

// EventID makes the id of an event from where it is recorded. No id has a full stop, which webhook signatures use to separate.
func EventID(kind, name string, number int64) string {
	return kind + "-" + name + "-" + strconv.FormatInt(number, 10)
}

// EventsRequest asks for events, oldest first.
type EventsRequest struct {
	After  uint64    `json:"after,omitempty"` // those at greater places in the stream only
	Since  time.Time `json:"since,omitzero"`  // told since; with no After
	Server string    `json:"server,omitempty"`
	Types  []string  `json:"types,omitempty"` // patterns; empty: all
}

// Reads implements [Reader].
func (EventsRequest) Reads() bool { return true }

// EventsReply is one page of events.
type EventsReply struct {
	Events []Event `json:"events"`
	Next   uint64  `json:"next"` // what After is to be for the page that follows
	More   bool    `json:"more"` // there is one now
}

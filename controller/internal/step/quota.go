package step

import (
	"sync/atomic"
	"time"
)

// quotaPause bounds how long a step that met a quota waits until it asks again: other work frees what it needs at any time.
const quotaPause = 15 * time.Second

// quota counts the servers that are worked on and do not wait for a quota themselves. A step that met a quota of the account waits
// as long as there are others, whose instances and volumes will go; when there are none, only a person can help.
type quota struct{ working atomic.Int32 }

func (q *quota) begin() { q.working.Add(1) }
func (q *quota) end()   { q.working.Add(-1) }

// mayPass says, to one that is counted itself, whether there is another one.
func (q *quota) mayPass() bool { return q.working.Load() > 1 }

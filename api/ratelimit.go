// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// RateLimit bounds how many requests a project may make. The zero value does
// not.
type RateLimit struct {
	PerSecond float64 // in the long run; 0: no limit
	Burst     int     // at once, after a while without any
}

// throttle keeps each project to a rate limit, in this process. A nil one
// keeps nobody.
type throttle struct {
	limit RateLimit
	// whole is how long a project without requests takes until it may make a
	// whole burst again. Then there is nothing left to remember of it.
	whole time.Duration

	mu       sync.Mutex
	projects map[string]*rate.Limiter
	swept    time.Time
}

func newThrottle(limit RateLimit) *throttle {
	if limit.PerSecond <= 0 {
		return nil
	}
	limit.Burst = max(limit.Burst, 1)
	whole := time.Duration(min(float64(limit.Burst)/limit.PerSecond, 86_400) * float64(time.Second))
	return &throttle{limit: limit, whole: max(whole, time.Minute), projects: make(map[string]*rate.Limiter)}
}

// take counts a request of the project at that time. wait is 0 when it may be
// made, and else how long until one may; then it does not count.
func (t *throttle) take(project string, now time.Time) (wait time.Duration) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.swept) > t.whole {
		for project, l := range t.projects {
			if l.TokensAt(now) >= float64(t.limit.Burst) {
				delete(t.projects, project)
			}
		}
		t.swept = now
	}
	l := t.projects[project]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(t.limit.PerSecond), t.limit.Burst)
		t.projects[project] = l
	}
	r := l.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// throttled counts the request, and refuses it when its project makes more
// than it may. Users without a project have a limit of their own.
func (a *API) throttled(c *call) error {
	t, what := a.changes, "changes"
	if c.Method == http.MethodGet || c.Method == http.MethodHead {
		t, what = a.reads, "reads"
	}
	wait := t.take(cmp.Or(c.caller.projectID, "user "+c.caller.userID), a.Now())
	if wait == 0 {
		return nil
	}
	return &Error{
		Status: http.StatusTooManyRequests, RetryAfter: wait,
		Detail: fmt.Sprintf("The project makes more %s than the %s a second that it may. Please wait before the next one.",
			what, strconv.FormatFloat(t.limit.PerSecond, 'f', -1, 64)),
	}
}

// wholeSeconds is a duration as Retry-After has it, at least one second.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

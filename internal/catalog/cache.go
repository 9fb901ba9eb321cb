// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"sync"
	"time"
)

// cacheSize is how many answers are kept.
const cacheSize = 4096

// cache remembers what was found, for a while. That something was not found is
// not remembered: who then makes it finds it at once.
type cache struct {
	life time.Duration

	mu      sync.Mutex
	answers map[question]answer
}

// question is what was looked for and by whom.
type question struct{ kind, ident, asker string }

type answer struct {
	found any
	until time.Time
}

func newCache(life time.Duration) *cache {
	return &cache{life: life, answers: map[question]answer{}}
}

// remembered returns the answer to a question, from memory or from find.
func remembered[T any](ctx context.Context, c *cache, kind, ident string, find func() (T, error)) (T, error) {
	q := question{kind, ident, asker(ctx)}
	if found, ok := c.get(q); ok {
		return found.(T), nil
	}
	found, err := find()
	if err == nil {
		c.put(q, found)
	}
	return found, err
}

func (c *cache) get(q question) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[q]
	return a.found, ok && time.Now().Before(a.until)
}

func (c *cache) put(q question, found any) {
	if c.life <= 0 {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= cacheSize {
		c.makeRoom(now)
	}
	c.answers[q] = answer{found, now.Add(c.life)}
}

// makeRoom forgets what is too old, or else everything: it is cheap to ask again.
func (c *cache) makeRoom(now time.Time) {
	for q, a := range c.answers {
		if !now.Before(a.until) {
			delete(c.answers, q)
		}
	}
	if len(c.answers) >= cacheSize {
		clear(c.answers)
	}
}

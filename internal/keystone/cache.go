// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// CacheOptions bound a Cache.
type CacheOptions struct {
	// Time is how long a valid token is trusted without asking again, so it
	// is the time until a revocation is seen: [keystone_authtoken]
	// token_cache_time. 5 minutes when 0.
	Time time.Duration

	// NegativeTime is the same for refused tokens. 10 seconds when 0.
	NegativeTime time.Duration

	// Size is how many tokens are kept; refused ones are counted apart, so
	// that a flood of them does not push out the good. 10000 when 0.
	Size int

	// Timeout of one question to the validator; 15 seconds when 0. Callers
	// who leave earlier do not cut it short for those who wait with them.
	Timeout time.Duration
}

// Cache remembers the answers of a Validator. Tokens themselves are not kept,
// only their SHA-256. It may be used by several goroutines at once.
type Cache struct {
	options CacheOptions
	next    ExpiredValidator
	asking  singleflight.Group

	hits, misses atomic.Int64

	mu      sync.Mutex
	valid   lru
	refused lru
}

var _ ExpiredValidator = (*Cache)(nil)

// NewCache puts a cache in front of a validator.
func NewCache(next ExpiredValidator, options CacheOptions) *Cache {
	if options.Time <= 0 {
		options.Time = 5 * time.Minute
	}
	if options.NegativeTime <= 0 {
		options.NegativeTime = 10 * time.Second
	}
	if options.Size <= 0 {
		options.Size = 10000
	}
	if options.Timeout <= 0 {
		options.Timeout = 15 * time.Second
	}
	return &Cache{options: options, next: next, valid: newLRU(options.Size), refused: newLRU(options.Size)}
}

// cacheKey keeps both kinds of question apart: an expired token is refused
// for one and valid for the other.
type cacheKey struct {
	sum          [sha256.Size]byte
	allowExpired bool
}

// Validate answers from memory, or asks the validator behind.
func (c *Cache) Validate(ctx context.Context, token string) (*Token, error) {
	return c.validate(ctx, token, false)
}

// ValidateExpired does the same for tokens whose time may be over.
func (c *Cache) ValidateExpired(ctx context.Context, token string) (*Token, error) {
	return c.validate(ctx, token, true)
}

func (c *Cache) validate(ctx context.Context, token string, allowExpired bool) (*Token, error) {
	if !isHeaderText(token) {
		return nil, ErrInvalidToken
	}
	var buffer [512]byte // holds the token without an allocation
	key := cacheKey{sha256.Sum256(append(buffer[:0], token...)), allowExpired}
	if t, known := c.look(key, time.Now()); known {
		c.hits.Add(1)
		if t == nil {
			return nil, ErrInvalidToken
		}
		return t, nil
	}
	c.misses.Add(1)
	return c.ask(ctx, key, token)
}

// Lookups tells how many questions were answered from memory, refusals too, and
// how many were not.
func (c *Cache) Lookups() (hits, misses int64) { return c.hits.Load(), c.misses.Load() }

// look returns (nil, true) for a token that is known to be refused.
func (c *Cache) look(key cacheKey, now time.Time) (t *Token, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.valid.get(key, now); t != nil {
		return t, true
	}
	if key.allowExpired {
		// What is valid without that allowance is valid with it.
		if t := c.valid.get(cacheKey{key.sum, false}, now); t != nil {
			return t, true
		}
	}
	return nil, c.refused.get(key, now) != nil
}

// ask puts the question once for all who ask it at the same time.
func (c *Cache) ask(ctx context.Context, key cacheKey, token string) (*Token, error) {
	flight := string(key.sum[:])
	if key.allowExpired {
		flight += "+"
	}
	answer := c.asking.DoChan(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.Timeout)
		defer cancel()
		validate := c.next.Validate
		if key.allowExpired {
			validate = c.next.ValidateExpired
		}
		t, err := validate(ctx, token)
		c.remember(key, t, err)
		return t, err
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case result := <-answer:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Token), nil
	}
}

// remember keeps both kinds of answer; that Keystone was down is not one.
func (c *Cache) remember(key cacheKey, t *Token, err error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		until := now.Add(c.options.Time)
		if !key.allowExpired && t.ExpiresAt.Before(until) {
			until = t.ExpiresAt
		}
		c.valid.put(key, t, until)
	case errors.Is(err, ErrInvalidToken):
		c.valid.remove(key)
		c.refused.put(key, refusedToken, now.Add(c.options.NegativeTime))
	}
}

// refusedToken stands in the list of refused tokens, whose values are not used.
var refusedToken = &Token{}

// lru is a map of bounded size that forgets what was not used for longest. Its
// user holds the lock.
type lru struct {
	size    int
	entries map[cacheKey]*list.Element
	order   *list.List // of lruEntry, last used first
}

type lruEntry struct {
	key   cacheKey
	token *Token
	until time.Time
}

func newLRU(size int) lru {
	return lru{size, map[cacheKey]*list.Element{}, list.New()}
}

func (l *lru) get(key cacheKey, now time.Time) *Token {
	element, ok := l.entries[key]
	if !ok {
		return nil
	}
	entry := element.Value.(*lruEntry)
	if !now.Before(entry.until) {
		l.remove(key)
		return nil
	}
	l.order.MoveToFront(element)
	return entry.token
}

func (l *lru) put(key cacheKey, t *Token, until time.Time) {
	l.remove(key)
	l.entries[key] = l.order.PushFront(&lruEntry{key, t, until})
	if l.order.Len() > l.size {
		l.remove(l.order.Back().Value.(*lruEntry).key)
	}
}

func (l *lru) remove(key cacheKey) {
	if element, ok := l.entries[key]; ok {
		l.order.Remove(element)
		delete(l.entries, key)
	}
}

// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ledger is a validator that knows some tokens and counts the questions.
type ledger struct {
	mu      sync.Mutex
	valid   map[string]*Token
	expired map[string]*Token
	down    bool
	asked   int
	delay   time.Duration
}

func (l *ledger) Validate(ctx context.Context, token string) (*Token, error) {
	return l.answer(ctx, token, false)
}

func (l *ledger) ValidateExpired(ctx context.Context, token string) (*Token, error) {
	return l.answer(ctx, token, true)
}

func (l *ledger) answer(ctx context.Context, token string, allowExpired bool) (*Token, error) {
	l.mu.Lock()
	l.asked++
	delay, down, t := l.delay, l.down, l.valid[token]
	if t == nil && allowExpired {
		t = l.expired[token]
	}
	l.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	switch {
	case down:
		return nil, ErrUnavailable
	case t == nil:
		return nil, ErrInvalidToken
	}
	return t, nil
}

func (l *ledger) wantAsked(t *testing.T, want int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked != want {
		t.Errorf("the validator was asked %d times, want %d", l.asked, want)
	}
}

func newLedger(tokens ...string) *ledger {
	l := &ledger{valid: map[string]*Token{}, expired: map[string]*Token{}}
	for _, text := range tokens {
		l.valid[text] = &Token{UserID: text, ExpiresAt: time.Now().Add(time.Hour)}
	}
	return l
}

func TestCacheSeesARevocationInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann")
		cache := NewCache(l, CacheOptions{Time: 300 * time.Second})
		for range 5 {
			if got, err := cache.Validate(t.Context(), "ann"); err != nil || got.UserID != "ann" {
				t.Fatal(got, err)
			}
		}
		l.wantAsked(t, 1)
		delete(l.valid, "ann")
		time.Sleep(299 * time.Second)
		if _, err := cache.Validate(t.Context(), "ann"); err != nil {
			t.Errorf("within the cache time: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := cache.Validate(t.Context(), "ann"); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("after the cache time: %v", err)
		}
		l.wantAsked(t, 2)
		if hits, misses := cache.Lookups(); hits != 5 || misses != 2 {
			t.Errorf("%d hits, %d misses", hits, misses)
		}
	})
}

func TestCacheEndsWithTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann")
		l.valid["ann"].ExpiresAt = time.Now().Add(20 * time.Second)
		cache := NewCache(l, CacheOptions{})
		if _, err := cache.Validate(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		delete(l.valid, "ann")
		if _, err := cache.Validate(t.Context(), "ann"); !errors.Is(err, ErrInvalidToken) {
			t.Error(err)
		}
	})
}

func TestCacheOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		cache := NewCache(l, CacheOptions{NegativeTime: 10 * time.Second})
		for range 5 {
			if _, err := cache.Validate(t.Context(), "ann"); !errors.Is(err, ErrInvalidToken) {
				t.Fatal(err)
			}
		}
		l.wantAsked(t, 1)
		l.valid["ann"] = &Token{UserID: "ann", ExpiresAt: time.Now().Add(time.Hour)}
		time.Sleep(10 * time.Second)
		if _, err := cache.Validate(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
		// What can not be a token is not even asked for.
		for _, text := range []string{"", "a b", strings.Repeat("x", maxTokenLength+1)} {
			if _, err := cache.Validate(t.Context(), text); !errors.Is(err, ErrInvalidToken) {
				t.Error(err)
			}
		}
		l.wantAsked(t, 2)
	})
}

func TestCacheDoesNotRememberFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann", "bob")
		cache := NewCache(l, CacheOptions{Time: time.Minute})
		if _, err := cache.Validate(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		l.down = true
		if _, err := cache.Validate(t.Context(), "ann"); err != nil {
			t.Errorf("a token in the cache, Keystone down: %v", err)
		}
		for range 2 {
			if _, err := cache.Validate(t.Context(), "bob"); !errors.Is(err, ErrUnavailable) {
				t.Errorf("a new token, Keystone down: %v", err)
			}
		}
		time.Sleep(time.Minute)
		if _, err := cache.Validate(t.Context(), "ann"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("the cache time is over, Keystone down: %v", err)
		}
		l.down = false
		for _, text := range []string{"ann", "bob"} {
			if _, err := cache.Validate(t.Context(), text); err != nil {
				t.Errorf("%s, Keystone back: %v", text, err)
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	l := newLedger("a", "b", "c", "d")
	cache := NewCache(l, CacheOptions{Size: 3})
	validate := func(text string) { cache.Validate(t.Context(), text) }
	validate("a")
	validate("b")
	validate("c")
	validate("a")
	validate("d") // pushes out b, which was not used for longest
	l.wantAsked(t, 4)
	for _, text := range []string{"a", "c", "d"} {
		validate(text)
	}
	l.wantAsked(t, 4)
	validate("b")
	l.wantAsked(t, 5)

	// A flood of forged tokens leaves the good ones alone.
	for i := range 100 {
		validate(fmt.Sprint("forged", i))
	}
	l.wantAsked(t, 105)
	validate("b")
	validate("d")
	l.wantAsked(t, 105)
	if cache.valid.order.Len() != 3 || cache.refused.order.Len() != 3 || len(cache.valid.entries) != 3 || len(cache.refused.entries) != 3 {
		t.Errorf("%d valid and %d refused tokens are kept", cache.valid.order.Len(), cache.refused.order.Len())
	}
}

func TestOneQuestionForAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann")
		l.delay = time.Second
		cache := NewCache(l, CacheOptions{})
		hasty, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := cache.Validate(hasty, "ann"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalidToken) {
				t.Errorf("the caller who left: %v", err)
			}
		})
		synctest.Wait() // the hasty one asks first, for all
		for range 50 {
			group.Go(func() {
				if _, err := cache.Validate(t.Context(), "ann"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		l.wantAsked(t, 1)
	})
}

func TestCacheAsksNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann")
		l.delay = time.Hour
		cache := NewCache(l, CacheOptions{Timeout: 15 * time.Second})
		began := time.Now()
		if _, err := cache.Validate(t.Context(), "ann"); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 15*time.Second {
			t.Errorf("after %s", waited)
		}
	})
}

func TestCacheKeepsExpiredTokensApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("ann")
		l.expired["old"] = &Token{UserID: "old", ExpiresAt: time.Now().Add(-time.Hour)}
		cache := NewCache(l, CacheOptions{})
		for range 2 {
			if _, err := cache.Validate(t.Context(), "old"); !errors.Is(err, ErrInvalidToken) {
				t.Error(err)
			}
			if got, err := cache.ValidateExpired(t.Context(), "old"); err != nil || got.UserID != "old" {
				t.Error(got, err)
			}
		}
		l.wantAsked(t, 2)
		cache.Validate(t.Context(), "ann")
		if _, err := cache.ValidateExpired(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
		l.wantAsked(t, 3) // a valid token needs no second question
	})
}

func TestCacheWithManyCallers(t *testing.T) {
	l := newLedger("a", "b", "c", "d")
	cache := NewCache(l, CacheOptions{Size: 2, Time: time.Microsecond})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 500 {
				text := string("abcdx"[i%5])
				got, err := cache.Validate(t.Context(), text)
				if text == "x" && !errors.Is(err, ErrInvalidToken) || text != "x" && (err != nil || got.UserID != text) {
					t.Errorf("%s: %v, %v", text, got, err)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkCacheHit(b *testing.B) {
	text := "gAAAAAB" + strings.Repeat("x", 176) // as long as a Fernet token
	cache := NewCache(newLedger(text), CacheOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cache.Validate(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCacheHitParallel(b *testing.B) {
	text := "gAAAAAB" + strings.Repeat("x", 176)
	cache := NewCache(newLedger(text), CacheOptions{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := cache.Validate(context.Background(), text); err != nil {
				b.Error(err)
			}
		}
	})
}

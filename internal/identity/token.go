// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

// expiredWindow is how long an expired token can still be validated with
// allow_expired, for services that finish long work in a user's name.
const expiredWindow = 48 * time.Hour

// token is what was granted to the holder of the text. It never changes.
type token struct {
	user       *user
	project    *project // nil for unscoped and system tokens
	system     bool
	roles      []*role
	methods    []string
	auditIDs   []string
	issuedAt   time.Time
	expiresAt  time.Time
	credential *applicationCredential // nil unless it logged in
}

func (t *token) hasRole(name string) bool {
	return slices.ContainsFunc(t.roles, func(r *role) bool { return strings.EqualFold(r.name, name) })
}

// tokenStore keeps tokens by the hash of their text: who reads the memory of
// the store can not use them. Its user holds the lock.
type tokenStore struct {
	max   int
	byKey map[tokenKey]*list.Element
	order *list.List // of stored, oldest first
}

type tokenKey [sha256.Size]byte

type stored struct {
	key   tokenKey
	token *token
}

func newTokenStore(maximum int) tokenStore {
	return tokenStore{maximum, map[tokenKey]*list.Element{}, list.New()}
}

func (s *tokenStore) add(text string, t *token) {
	key := tokenKey(sha256.Sum256([]byte(text)))
	s.byKey[key] = s.order.PushBack(stored{key, t})
	for front := s.order.Front(); front != nil; front = s.order.Front() {
		oldest := front.Value.(stored)
		if s.order.Len() <= s.max && t.issuedAt.Before(oldest.token.expiresAt.Add(expiredWindow)) {
			break
		}
		s.order.Remove(front)
		delete(s.byKey, oldest.key)
	}
}

func (s *tokenStore) get(text string) *token {
	element, ok := s.byKey[sha256.Sum256([]byte(text))]
	if !ok {
		return nil
	}
	return element.Value.(stored).token
}

func (s *tokenStore) remove(text string) {
	key := tokenKey(sha256.Sum256([]byte(text)))
	if element, ok := s.byKey[key]; ok {
		s.order.Remove(element)
		delete(s.byKey, key)
	}
}

// lookUp returns the token behind the text, or nil. Expired tokens are only
// found with allowExpired.
func (s *Server) lookUp(text string, allowExpired bool) *token {
	if text == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens.get(text)
	if t == nil {
		return nil
	}
	now := time.Now()
	if now.After(t.expiresAt) && (!allowExpired || now.After(t.expiresAt.Add(expiredWindow))) {
		return nil
	}
	if c := t.credential; c != nil && (s.credentials[c.id] != c || c.expired(now)) {
		return nil
	}
	return t
}

// issue stores a new token and returns its text.
func (s *Server) issue(t *token) string {
	text := randomText(32)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.add(text, t)
	return text
}

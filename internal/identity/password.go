// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// hashRounds makes one check cost about ten milliseconds: enough to make
// guessing slow, little enough not to delay the start, when all are hashed.
// The hashes never leave the memory of the process.
const hashRounds = 20_000

type passwordHash struct {
	salt, key []byte
}

func hashPassword(password string) passwordHash {
	h := passwordHash{salt: make([]byte, 16)}
	rand.Read(h.salt)
	h.key = derive(password, h.salt)
	return h
}

func derive(password string, salt []byte) []byte {
	key, err := pbkdf2.Key(sha256.New, password, salt, hashRounds, sha256.Size)
	if err != nil {
		panic(err) // only for impossible parameters
	}
	return key
}

// verifyPassword tells whether u, which may be nil, has this password. It
// takes as long for a user who does not exist.
func (s *Server) verifyPassword(ctx context.Context, u *user, password string) bool {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return false
	}
	hash := s.nobody
	if u != nil {
		hash = u.password
	}
	same := subtle.ConstantTimeCompare(derive(password, hash.salt), hash.key) == 1
	return same && u != nil
}

// randomText returns n random bytes in the URL-safe base64 alphabet.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

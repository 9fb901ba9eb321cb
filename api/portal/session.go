// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// session is who uses the portal. It lives in a cookie that only Keelson can
// open or make. Before the login there is one as well, without a token, so
// that the form of the login is as protected as all others.
type session struct {
	Token   string    `json:"t,omitempty"` // of the project
	Login   string    `json:"l,omitempty"` // without a project; leads to other projects. Empty: there is no way to others
	User    string    `json:"u,omitempty"` // name
	Domain  string    `json:"d,omitempty"`
	Project string    `json:"p,omitempty"` // id
	Name    string    `json:"n,omitempty"` // of the project
	Admin   bool      `json:"a,omitempty"` // is shown the way to what is for administrators; the API decides
	Key     []byte    `json:"k"`           // what forms of this session and project prove
	Begun   time.Time `json:"b"`
	Seen    time.Time `json:"s"` // somebody did something, to the minute
	Ends    time.Time `json:"e"` // the token does
}

// The cookie's names. One that begins with __Host- browsers take from this
// very host only, and over TLS only.
const (
	secureCookie = "__Host-keelson"
	plainCookie  = "keelson"
)

// largestCookie is what browsers keep of one, in bytes.
const largestCookie = 4000

// anonymousLife bounds how long a form for the login stays good.
const anonymousLife = time.Hour

var errTooLarge = errors.New("the tokens of this Keystone are too long for a cookie")

func (p *Portal) newSession() *session {
	now := p.Now()
	s := &session{Begun: now, Seen: now, Ends: now.Add(anonymousLife)}
	s.renewKey()
	return s
}

// renewKey makes all forms of before worthless.
func (s *session) renewKey() {
	s.Key = make([]byte, 16)
	rand.Read(s.Key)
}

// sessionOf reads the cookie; nil when there is none, or its time is over.
func (p *Portal) sessionOf(r *http.Request) *session {
	cookie, err := r.Cookie(p.cookieName(r))
	if err != nil {
		return nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return nil
	}
	text, err := p.Sealer.Open(sealed, "portal", "session")
	if err != nil {
		return nil
	}
	s := new(session)
	if json.Unmarshal(text, s) != nil || len(s.Key) == 0 {
		return nil
	}
	now := p.Now()
	if !now.Before(s.Ends) || now.Sub(s.Begun) >= p.SessionLifetime || now.Sub(s.Seen) >= p.SessionIdle {
		return nil
	}
	return s
}

// keep gives the browser the session.
func (p *Portal) keep(w http.ResponseWriter, r *http.Request, s *session) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	value := base64.RawURLEncoding.EncodeToString(p.Sealer.Seal(text, "portal", "session"))
	if len(value) > largestCookie {
		return errTooLarge
	}
	http.SetCookie(w, p.cookie(r, value))
	return nil
}

// forget takes the session from the browser.
func (p *Portal) forget(w http.ResponseWriter, r *http.Request) {
	cookie := p.cookie(r, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// touch notes that somebody did something.
func (p *Portal) touch(w http.ResponseWriter, r *http.Request, s *session) {
	if p.Now().Sub(s.Seen) < time.Minute {
		return
	}
	s.Seen = p.Now()
	if err := p.keep(w, r, s); err != nil {
		p.Logger.ErrorContext(r.Context(), "session is not kept", "error", err)
	}
}

func (p *Portal) cookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{
		Name: p.cookieName(r), Value: value, Path: "/",
		HttpOnly: true, Secure: p.overTLS(r), SameSite: http.SameSiteLaxMode,
	}
}

func (p *Portal) cookieName(r *http.Request) string {
	if p.overTLS(r) {
		return secureCookie
	}
	return plainCookie
}

// overTLS tells whether the browser came over TLS.
func (p *Portal) overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return p.ProxyHeaders && strings.TrimSpace(proto) == "https"
}

var prefixForm = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// forwardedPrefix is the path under which a proxy shows Keelson.
func forwardedPrefix(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Prefix"), ",")
	prefix := strings.TrimSuffix(strings.TrimSpace(first), "/")
	if !prefixForm.MatchString(prefix) {
		return ""
	}
	return prefix
}

// secret is what a form of the session carries. It looks different each time,
// so that the length of compressed pages tells nothing about it.
func (s *session) secret() string {
	mask := make([]byte, len(s.Key))
	rand.Read(mask)
	return base64.RawURLEncoding.EncodeToString(append(mask, xor(s.Key, mask)...))
}

// made tells whether the form that carried the text is one of the session.
func (s *session) made(text string) bool {
	both, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(both) != 2*len(s.Key) {
		return false
	}
	mask, masked := both[:len(s.Key)], both[len(s.Key):]
	return subtle.ConstantTimeCompare(xor(masked, mask), s.Key) == 1
}

func xor(a, b []byte) []byte {
	c := make([]byte, len(a))
	subtle.XORBytes(c, a, b)
	return c
}

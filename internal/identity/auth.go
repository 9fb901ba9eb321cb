// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// reference names a user, project or credential, by id or by name and domain.
type reference struct {
	ID     string     `json:"id"`
	Name   string     `json:"name"`
	Domain *reference `json:"domain"`
}

func (r *reference) inDefaultDomain() bool {
	return r.Domain != nil && (r.Domain.ID == domainID || r.Domain.Name == domainName)
}

type authRequest struct {
	Auth *struct {
		Identity *struct {
			Methods  []string `json:"methods"`
			Password *struct {
				User struct {
					reference
					Password string `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token *struct {
				ID string `json:"id"`
			} `json:"token"`
			ApplicationCredential *struct {
				reference
				Secret string     `json:"secret"`
				User   *reference `json:"user"`
			} `json:"application_credential"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth"`
}

type scope struct {
	Project  *reference      `json:"project"`
	Domain   *reference      `json:"domain"`
	Trust    *reference      `json:"OS-TRUST:trust"`
	Unscoped json.RawMessage `json:"unscoped"`
	System   *struct {
		All bool `json:"all"`
	} `json:"system"`
}

func (s *Server) createToken(w http.ResponseWriter, r *http.Request) {
	var request authRequest
	if !readBody(w, r, &request) {
		return
	}
	if request.Auth == nil || request.Auth.Identity == nil {
		fail(w, http.StatusBadRequest, "Expecting to find identity in auth.")
		return
	}
	t := s.authenticate(w, r, &request)
	if t == nil {
		return
	}
	if !s.applyScope(w, r, t, request.Auth.Scope) {
		return
	}
	w.Header().Set("X-Subject-Token", s.issue(t))
	s.writeToken(w, r, http.StatusCreated, t)
}

// authenticate checks the proof of identity. It returns an unscoped token that
// is not yet stored, or nil after it has answered the request.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, request *authRequest) *token {
	identity := request.Auth.Identity
	if len(identity.Methods) != 1 {
		fail(w, http.StatusBadRequest, "Expecting to find exactly one method in identity.")
		return nil
	}
	method := identity.Methods[0]
	now := time.Now().UTC()
	t := &token{
		methods:   []string{method},
		auditIDs:  []string{randomText(16)},
		issuedAt:  now,
		expiresAt: now.Add(s.config.TokenLifetime),
	}
	switch {
	case method == "password" && identity.Password != nil:
		given := &identity.Password.User
		u := s.findUser(&given.reference)
		if s.verifyPassword(r.Context(), u, given.Password) {
			t.user = u
		}
	case method == "token" && identity.Token != nil:
		old := s.lookUp(identity.Token.ID, false)
		if old == nil {
			break
		}
		if old.credential != nil {
			fail(w, http.StatusForbidden, "A token of an application credential can not be used to get another token.")
			return nil
		}
		t.user = old.user
		// A token obtained by a token lives no longer than the first.
		t.expiresAt = old.expiresAt
		t.auditIDs = append(t.auditIDs, old.auditIDs[len(old.auditIDs)-1])
		for _, m := range old.methods {
			if !slices.Contains(t.methods, m) {
				t.methods = append(t.methods, m)
			}
		}
	case method == "application_credential" && identity.ApplicationCredential != nil:
		given := identity.ApplicationCredential
		if c := s.checkCredential(&given.reference, given.User, given.Secret); c != nil {
			t.user, t.credential = c.user, c
			if !c.expiresAt.IsZero() && c.expiresAt.Before(t.expiresAt) {
				t.expiresAt = c.expiresAt
			}
		}
	default:
		fail(w, http.StatusBadRequest, "Expecting to find "+clip(method)+" in identity.")
		return nil
	}
	if t.user == nil {
		s.log.Info("login refused", "method", method, "from", r.RemoteAddr)
		s.unauthorized(w, r)
		return nil
	}
	return t
}

func (s *Server) findUser(ref *reference) *user {
	if ref.ID != "" {
		return s.userByID(ref.ID)
	}
	if ref.Name == "" || !ref.inDefaultDomain() {
		return nil
	}
	return s.userByName(ref.Name)
}

// applyScope gives the token the scope and its roles, or answers the request
// and returns false.
func (s *Server) applyScope(w http.ResponseWriter, r *http.Request, t *token, raw json.RawMessage) bool {
	var wanted scope
	explicit := len(raw) > 0 && string(raw) != "null"
	if explicit && string(raw) != `"unscoped"` {
		if err := json.Unmarshal(raw, &wanted); err != nil {
			fail(w, http.StatusBadRequest, "Expecting to find an object in scope.")
			return false
		}
	}
	if t.credential != nil {
		// The credential carries its scope; another one can not be asked for.
		if explicit {
			s.unauthorized(w, r)
			return false
		}
		t.project, t.roles = t.credential.project, t.credential.roles
		return true
	}
	switch {
	case wanted.Project != nil:
		t.project = s.findProject(wanted.Project)
		t.roles = t.user.projectRoles[t.project]
	case wanted.System != nil && wanted.System.All:
		t.system, t.roles = true, t.user.systemRoles
	case wanted.Domain != nil, wanted.Trust != nil, wanted.System != nil:
		// Nobody has a role there.
	case explicit || t.user.defaultProject == nil:
		return true // unscoped
	default:
		t.project = t.user.defaultProject
		t.roles = t.user.projectRoles[t.project]
	}
	if len(t.roles) == 0 {
		s.unauthorized(w, r)
		return false
	}
	return true
}

func (s *Server) findProject(ref *reference) *project {
	if ref.ID != "" {
		return s.projectByID(ref.ID)
	}
	if !ref.inDefaultDomain() {
		return nil
	}
	return s.projectByName(ref.Name)
}

// subject returns the token in X-Subject-Token if the caller may see it: its
// own user, a service or an administrator. Else it answers the request.
func (s *Server) subject(w http.ResponseWriter, r *http.Request, caller *token, action string) (text string, t *token) {
	text = strings.TrimSpace(r.Header.Get("X-Subject-Token"))
	if text == "" {
		fail(w, http.StatusNotFound, "No token in the request")
		return "", nil
	}
	allowExpired := r.Method != http.MethodDelete && isTrue(r.URL.Query().Get("allow_expired"))
	t = s.lookUp(text, allowExpired)
	if t == nil {
		fail(w, http.StatusNotFound, "Could not recognize token")
		return "", nil
	}
	if t.user != caller.user && !caller.hasRole("admin") &&
		(action == "identity:revoke_token" || !caller.hasRole("service") && !(caller.system && caller.hasRole("reader"))) {
		forbidden(w, action)
		return "", nil
	}
	return text, t
}

func (s *Server) validateToken(w http.ResponseWriter, r *http.Request, caller *token) {
	text, t := s.subject(w, r, caller, "identity:validate_token")
	if t == nil {
		return
	}
	w.Header().Set("X-Subject-Token", text)
	s.writeToken(w, r, http.StatusOK, t)
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request, caller *token) {
	text, t := s.subject(w, r, caller, "identity:revoke_token")
	if t == nil {
		return
	}
	s.mu.Lock()
	s.tokens.remove(text)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

func (s *Server) writeToken(w http.ResponseWriter, r *http.Request, status int, t *token) {
	domain := object{"id": domainID, "name": domainName}
	body := object{
		"methods":    t.methods,
		"user":       object{"id": t.user.id, "name": t.user.name, "domain": domain, "password_expires_at": nil},
		"audit_ids":  t.auditIDs,
		"issued_at":  t.issuedAt.Format(timeFormat),
		"expires_at": t.expiresAt.Format(timeFormat),
	}
	if t.project != nil {
		body["project"] = object{"id": t.project.id, "name": t.project.name, "domain": domain}
		body["is_domain"] = false
	}
	if t.system {
		body["system"] = object{"all": true}
	}
	if len(t.roles) > 0 {
		roles := make([]object, len(t.roles))
		for i, role := range t.roles {
			roles[i] = object{"id": role.id, "name": role.name}
		}
		body["roles"] = roles
		if !r.URL.Query().Has("nocatalog") {
			body["catalog"] = s.catalog(r)
		}
	}
	if c := t.credential; c != nil {
		body["application_credential"] = object{"id": c.id, "name": c.name, "restricted": !c.unrestricted}
	}
	respond(w, status, object{"token": body})
}

// isTrue reads a query argument as Keystone does: present without a value is
// true.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "1", "true", "t", "on", "yes", "y":
		return true
	}
	return false
}

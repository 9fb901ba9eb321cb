// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxCredentials is how many application credentials a user can have.
const maxCredentials = 100

// applicationCredential lets a program log in as a user, for one project. It
// never changes.
type applicationCredential struct {
	id, name, description string
	secret                [sha256.Size]byte // hash of a long random text, or of what the user chose
	user                  *user
	project               *project
	roles                 []*role
	expiresAt             time.Time // zero: never
	unrestricted          bool
}

func (c *applicationCredential) expired(now time.Time) bool {
	return !c.expiresAt.IsZero() && now.After(c.expiresAt)
}

// checkCredential returns the credential with this id, or this name and user,
// if the secret fits.
func (s *Server) checkCredential(ref, owner *reference, secret string) *applicationCredential {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.credentials[ref.ID]
	if ref.ID == "" && owner != nil {
		found = s.credentialByName(s.findUser(owner), ref.Name)
	}
	hash := sha256.Sum256([]byte(secret))
	if found == nil || found.expired(time.Now()) || subtle.ConstantTimeCompare(hash[:], found.secret[:]) != 1 {
		return nil
	}
	return found
}

// credentialByName needs the lock.
func (s *Server) credentialByName(u *user, name string) *applicationCredential {
	for _, c := range s.credentials {
		if c.user == u && c.name == name {
			return c
		}
	}
	return nil
}

// mayManageCredentials tells whether the caller acts as the user in the path.
// A restricted application credential must not breed others.
func mayManageCredentials(w http.ResponseWriter, r *http.Request, caller *token, action string) bool {
	restricted := r.Method != http.MethodGet && caller.credential != nil && !caller.credential.unrestricted
	if caller.user.id != r.PathValue("user") || restricted {
		forbidden(w, action)
		return false
	}
	return true
}

func (s *Server) createCredential(w http.ResponseWriter, r *http.Request, caller *token) {
	if !mayManageCredentials(w, r, caller, "identity:create_application_credential") {
		return
	}
	var request struct {
		Credential struct {
			Name         string      `json:"name"`
			Description  string      `json:"description"`
			Secret       string      `json:"secret"`
			Roles        []reference `json:"roles"`
			ExpiresAt    string      `json:"expires_at"`
			Unrestricted bool        `json:"unrestricted"`
			AccessRules  []any       `json:"access_rules"`
		} `json:"application_credential"`
	}
	if !readBody(w, r, &request) {
		return
	}
	given := request.Credential
	switch {
	case given.Name == "" || len(given.Name) > 255 || len(given.Description) > 1024:
		fail(w, http.StatusBadRequest, "Expecting to find a name of 1 to 255 bytes in application_credential.")
		return
	case len(given.AccessRules) > 0:
		fail(w, http.StatusBadRequest, "Access rules are not supported.")
		return
	case caller.project == nil:
		fail(w, http.StatusBadRequest, "An application credential needs a token that is scoped to a project.")
		return
	}
	c := &applicationCredential{
		id: strings.ReplaceAll(uuid.NewString(), "-", ""), name: given.Name, description: given.Description,
		user: caller.user, project: caller.project, roles: caller.roles, unrestricted: given.Unrestricted,
	}
	if len(given.Roles) > 0 {
		var names []string
		for _, wanted := range given.Roles {
			i := slices.IndexFunc(caller.roles, func(held *role) bool {
				return wanted.ID == held.id || wanted.ID == "" && strings.EqualFold(wanted.Name, held.name)
			})
			if i < 0 {
				fail(w, http.StatusBadRequest, "A role that you do not have can not be given on.")
				return
			}
			names = append(names, caller.roles[i].name)
		}
		c.roles = s.withImplied(names)
	}
	if given.ExpiresAt != "" {
		at, ok := parseTime(given.ExpiresAt)
		if !ok || at.Before(time.Now()) {
			fail(w, http.StatusBadRequest, "expires_at is not a time to come.")
			return
		}
		c.expiresAt = at
	}
	secret := given.Secret
	if secret == "" {
		secret = randomText(64)
	}
	c.secret = sha256.Sum256([]byte(secret))

	if status, message := s.storeCredential(c); status != http.StatusCreated {
		fail(w, status, message)
		return
	}
	described := s.describeCredential(r, c)
	described["secret"] = secret
	respond(w, http.StatusCreated, object{"application_credential": described})
}

func (s *Server) storeCredential(c *applicationCredential) (status int, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credentialByName(c.user, c.name) != nil {
		return http.StatusConflict, "Duplicate entry found with name " + clip(c.name) + "."
	}
	held := 0
	for _, other := range s.credentials {
		if other.user == c.user {
			held++
		}
	}
	if held >= maxCredentials {
		return http.StatusForbidden, "Unable to create additional application credentials, maximum of 100 already exceeded for user."
	}
	s.credentials[c.id] = c
	return http.StatusCreated, ""
}

// parseTime reads ISO 8601 in UTC, with or without fraction and Z.
func parseTime(text string) (time.Time, bool) {
	at, err := time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(text, "Z"))
	return at, err == nil
}

func (s *Server) describeCredential(r *http.Request, c *applicationCredential) object {
	roles := make([]object, len(c.roles))
	for i, role := range c.roles {
		roles[i] = object{"id": role.id, "name": role.name, "domain_id": nil}
	}
	described := object{
		"id": c.id, "name": c.name, "description": c.description, "user_id": c.user.id, "project_id": c.project.id,
		"system": nil, "expires_at": nil, "unrestricted": c.unrestricted, "roles": roles,
		"links": object{"self": s.url(r) + "/users/" + c.user.id + "/application_credentials/" + c.id},
	}
	if !c.expiresAt.IsZero() {
		described["expires_at"] = c.expiresAt.Format("2006-01-02T15:04:05.000000")
	}
	return described
}

func (s *Server) listCredentials(w http.ResponseWriter, r *http.Request, caller *token) {
	if !mayManageCredentials(w, r, caller, "identity:list_application_credentials") {
		return
	}
	var own []*applicationCredential
	s.mu.Lock()
	for _, c := range s.credentials {
		if c.user == caller.user {
			own = append(own, c)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(own, func(a, b *applicationCredential) int { return strings.Compare(a.name, b.name) })
	var all []object
	for _, c := range own {
		all = append(all, s.describeCredential(r, c))
	}
	s.list(w, r, "application_credentials", all)
}

// pathCredential returns the caller's credential in the path, or answers the
// request.
func (s *Server) pathCredential(w http.ResponseWriter, r *http.Request, caller *token, action string) *applicationCredential {
	if !mayManageCredentials(w, r, caller, action) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[r.PathValue("id")]
	if c == nil || c.user != caller.user {
		notFound(w, "application credential", r.PathValue("id"))
		return nil
	}
	return c
}

func (s *Server) showCredential(w http.ResponseWriter, r *http.Request, caller *token) {
	if c := s.pathCredential(w, r, caller, "identity:get_application_credential"); c != nil {
		respond(w, http.StatusOK, object{"application_credential": s.describeCredential(r, c)})
	}
}

// deleteCredential also ends the tokens that were got with it: see lookUp.
func (s *Server) deleteCredential(w http.ResponseWriter, r *http.Request, caller *token) {
	c := s.pathCredential(w, r, caller, "identity:delete_application_credential")
	if c == nil {
		return
	}
	s.mu.Lock()
	delete(s.credentials, c.id)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

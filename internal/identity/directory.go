// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
)

// The read-only collections. Administrators and holders of a reader role on
// the system see everything, others what is their own.

func (t *token) readsAll() bool {
	return t.hasRole("admin") || t.system && t.hasRole("reader")
}

func (s *Server) describeProject(r *http.Request, p *project) object {
	return object{
		"id": p.id, "name": p.name, "description": p.description, "domain_id": domainID, "parent_id": domainID,
		"enabled": true, "is_domain": false, "tags": []string{}, "options": object{},
		"links": object{"self": s.url(r) + "/projects/" + p.id},
	}
}

func (s *Server) describeUser(r *http.Request, u *user) object {
	described := object{
		"id": u.id, "name": u.name, "domain_id": domainID, "enabled": true, "password_expires_at": nil,
		"options": object{}, "links": object{"self": s.url(r) + "/users/" + u.id},
	}
	if u.defaultProject != nil {
		described["default_project_id"] = u.defaultProject.id
	}
	return described
}

func (s *Server) describeDomain(r *http.Request) object {
	return object{
		"id": domainID, "name": domainName, "description": "The default domain", "enabled": true,
		"tags": []string{}, "options": object{}, "links": object{"self": s.url(r) + "/domains/" + domainID},
	}
}

func (s *Server) describeRole(r *http.Request, role *role) object {
	return object{
		"id": role.id, "name": role.name, "domain_id": nil, "description": nil, "options": object{},
		"links": object{"self": s.url(r) + "/roles/" + role.id},
	}
}

func (s *Server) describeService(r *http.Request, entry *service) object {
	return object{
		"id": entry.id, "type": entry.Type, "name": entry.Name, "enabled": true,
		"links": object{"self": s.url(r) + "/services/" + entry.id},
	}
}

func (s *Server) endpoints(r *http.Request, entry *service) []object {
	url := entry.URL
	if url == "" {
		url = s.url(r)
	}
	endpoints := make([]object, len(interfaces))
	for i, name := range interfaces {
		endpoints[i] = object{
			"id": entry.endpointIDs[name], "interface": name, "url": url,
			"region": s.config.Region, "region_id": s.config.Region,
		}
	}
	return endpoints
}

func (s *Server) catalog(r *http.Request) []object {
	entries := make([]object, len(s.services))
	for i, entry := range s.services {
		entries[i] = object{"id": entry.id, "type": entry.Type, "name": entry.Name, "endpoints": s.endpoints(r, entry)}
	}
	return entries
}

// list answers with a collection, filtered by those query arguments that name
// a text attribute.
func (s *Server) list(w http.ResponseWriter, r *http.Request, name string, all []object) {
	query := r.URL.Query()
	kept := []object{}
	for _, item := range all {
		match := true
		for attribute := range query {
			value, isText := item[attribute].(string)
			match = match && (!isText || value == query.Get(attribute))
		}
		if match {
			kept = append(kept, item)
		}
	}
	respond(w, http.StatusOK, object{
		name:    kept,
		"links": object{"self": s.url(r) + "/" + name, "next": nil, "previous": nil},
	})
}

func (s *Server) projectsOf(r *http.Request, u *user) []object {
	var found []object
	for _, p := range s.projects {
		if len(u.projectRoles[p]) > 0 {
			found = append(found, s.describeProject(r, p))
		}
	}
	return found
}

func (s *Server) ownProjects(w http.ResponseWriter, r *http.Request, caller *token) {
	s.list(w, r, "projects", s.projectsOf(r, caller.user))
}

func (s *Server) ownDomains(w http.ResponseWriter, r *http.Request, _ *token) {
	s.list(w, r, "domains", nil) // nobody has a role on a domain
}

func (s *Server) ownSystem(w http.ResponseWriter, r *http.Request, caller *token) {
	system := []object{}
	if len(caller.user.systemRoles) > 0 {
		system = append(system, object{"all": true})
	}
	respond(w, http.StatusOK, object{"system": system, "links": object{"self": s.url(r) + "/auth/system"}})
}

func (s *Server) showCatalog(w http.ResponseWriter, r *http.Request, caller *token) {
	if len(caller.roles) == 0 {
		forbidden(w, "identity:get_auth_catalog")
		return
	}
	respond(w, http.StatusOK, object{"catalog": s.catalog(r), "links": object{"self": s.url(r) + "/auth/catalog"}})
}

func (s *Server) listProjects(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_projects")
		return
	}
	var all []object
	for _, p := range s.projects {
		all = append(all, s.describeProject(r, p))
	}
	s.list(w, r, "projects", all)
}

func (s *Server) showProject(w http.ResponseWriter, r *http.Request, caller *token) {
	p := s.projectByID(r.PathValue("id"))
	switch {
	case !caller.readsAll() && (p == nil || caller.project != p):
		forbidden(w, "identity:get_project")
	case p == nil:
		notFound(w, "project", r.PathValue("id"))
	default:
		respond(w, http.StatusOK, object{"project": s.describeProject(r, p)})
	}
}

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_users")
		return
	}
	var all []object
	for _, u := range s.users {
		all = append(all, s.describeUser(r, u))
	}
	s.list(w, r, "users", all)
}

// pathUser returns the user in the path, if the caller may look at him;
// otherwise it answers the request.
func (s *Server) pathUser(w http.ResponseWriter, r *http.Request, caller *token, action string) *user {
	id := r.PathValue("user")
	if !caller.readsAll() && caller.user.id != id {
		forbidden(w, action)
		return nil
	}
	u := s.userByID(id)
	if u == nil {
		notFound(w, "user", id)
	}
	return u
}

func (s *Server) showUser(w http.ResponseWriter, r *http.Request, caller *token) {
	if u := s.pathUser(w, r, caller, "identity:get_user"); u != nil {
		respond(w, http.StatusOK, object{"user": s.describeUser(r, u)})
	}
}

func (s *Server) userProjects(w http.ResponseWriter, r *http.Request, caller *token) {
	if u := s.pathUser(w, r, caller, "identity:list_user_projects"); u != nil {
		s.list(w, r, "projects", s.projectsOf(r, u))
	}
}

func (s *Server) listDomains(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_domains")
		return
	}
	s.list(w, r, "domains", []object{s.describeDomain(r)})
}

func (s *Server) showDomain(w http.ResponseWriter, r *http.Request, _ *token) {
	if r.PathValue("id") != domainID {
		notFound(w, "domain", r.PathValue("id"))
		return
	}
	respond(w, http.StatusOK, object{"domain": s.describeDomain(r)})
}

func (s *Server) listRoles(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_roles")
		return
	}
	var all []object
	for _, role := range s.roles {
		all = append(all, s.describeRole(r, role))
	}
	s.list(w, r, "roles", all)
}

func (s *Server) showRole(w http.ResponseWriter, r *http.Request, caller *token) {
	found := find(s.roles, func(role *role) bool { return role.id == r.PathValue("id") })
	switch {
	case !caller.readsAll():
		forbidden(w, "identity:get_role")
	case found == nil:
		notFound(w, "role", r.PathValue("id"))
	default:
		respond(w, http.StatusOK, object{"role": s.describeRole(r, found)})
	}
}

func (s *Server) listServices(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_services")
		return
	}
	var all []object
	for _, entry := range s.services {
		all = append(all, s.describeService(r, entry))
	}
	s.list(w, r, "services", all)
}

func (s *Server) showService(w http.ResponseWriter, r *http.Request, caller *token) {
	found := find(s.services, func(entry *service) bool { return entry.id == r.PathValue("id") })
	switch {
	case !caller.readsAll():
		forbidden(w, "identity:get_service")
	case found == nil:
		notFound(w, "service", r.PathValue("id"))
	default:
		respond(w, http.StatusOK, object{"service": s.describeService(r, found)})
	}
}

func (s *Server) listEndpoints(w http.ResponseWriter, r *http.Request, caller *token) {
	if !caller.readsAll() {
		forbidden(w, "identity:list_endpoints")
		return
	}
	var all []object
	for _, entry := range s.services {
		for _, endpoint := range s.endpoints(r, entry) {
			endpoint["service_id"] = entry.id
			endpoint["enabled"] = true
			all = append(all, endpoint)
		}
	}
	s.list(w, r, "endpoints", all)
}

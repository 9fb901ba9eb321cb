// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/keelson/keelson/internal/identity"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/testenv"
)

// openstackAPIs answers as the references of the Compute, Image and Networking
// APIs say, from the tables below, to callers whose tokens its Keystone takes.
// Lists have two things a page.
type openstackAPIs struct {
	*httptest.Server
	flavors           []object
	access            map[string][]string // projects of private flavors, by id
	keypairs          map[string][]string // names, by user name
	images            []object
	members           map[string][]string // projects of shared images, by id
	networks, subnets []object
	forbiddenImage    string // its id
	ports             []object
	addresses         int // of each network, for ports

	mu            sync.Mutex
	requests      []string // path and query of each
	serviceTokens int      // requests that had one
	handler       http.Handler
	trick         http.HandlerFunc // in its place
}

type object = map[string]any

const pageSize = 2

func (o *openstackAPIs) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2.1/flavors/detail", o.listFlavors)
	mux.HandleFunc("GET /v2.1/flavors/{id}/os-flavor-access", o.listAccess)
	mux.HandleFunc("GET /v2.1/os-keypairs", func(w http.ResponseWriter, r *http.Request) {
		all := []object{}
		for _, name := range o.keypairs[keystone.FromContext(r.Context()).UserName] {
			all = append(all, object{"keypair": object{"name": name, "fingerprint": "7e:eb", "public_key": "ssh-rsa AAAA"}})
		}
		reply(w, object{"keypairs": all})
	})
	mux.HandleFunc("GET /v2/images", o.listImages)
	mux.HandleFunc("GET /v2/images/{id}", o.showImage)
	mux.HandleFunc("GET /v2/images/{id}/members/{member}", func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(o.members[r.PathValue("id")], r.PathValue("member")) {
			http.Error(w, "<h1>404 Not Found</h1>", http.StatusNotFound)
			return
		}
		reply(w, object{"image_id": r.PathValue("id"), "member_id": r.PathValue("member"), "status": "accepted"})
	})
	mux.HandleFunc("GET /v2.0/networks", o.listNetworks("networks", func() []object { return o.networks }))
	mux.HandleFunc("GET /v2.0/subnets", o.listNetworks("subnets", func() []object { return o.subnets }))
	mux.HandleFunc("GET /v2.0/ports", func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.listNetworks("ports", func() []object { return o.ports })(w, r)
	})
	mux.HandleFunc("POST /v2.0/ports", o.createPort)
	mux.HandleFunc("PUT /v2.0/ports/{id}", o.changePort)
	mux.HandleFunc("DELETE /v2.0/ports/{id}", o.changePort)
	return mux
}

// neutronError answers with an error as Neutron words it.
func neutronError(w http.ResponseWriter, code int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object{"NeutronError": object{"type": kind, "message": message, "detail": ""}})
}

// createPort takes an address from 10.99.0.0/24.
func (o *openstackAPIs) createPort(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var body struct{ Port object }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", err.Error())
		return
	}
	p := body.Port
	if !slices.ContainsFunc(o.networks, func(n object) bool { return n["id"] == p["network_id"] }) {
		neutronError(w, http.StatusNotFound, "NetworkNotFound", fmt.Sprintf("Network %v could not be found.", p["network_id"]))
		return
	}
	taken := make(map[any]bool)
	for _, other := range o.ports {
		taken[other["fixed_ips"].([]object)[0]["ip_address"]] = true
	}
	for n := 10; n < 10+o.addresses; n++ {
		address := fmt.Sprint("10.99.0.", n)
		if taken[address] {
			continue
		}
		p["id"], p["mac_address"], p["status"], p["admin_state_up"] = uuid.NewString(), fmt.Sprintf("fa:16:3e:00:00:%02x", n), "DOWN", true
		p["project_id"] = keystone.FromContext(r.Context()).ProjectID
		p["fixed_ips"] = []object{{"subnet_id": id(1), "ip_address": address}}
		o.ports = append(o.ports, p)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(object{"port": p})
		return
	}
	neutronError(w, http.StatusConflict, "IpAddressGenerationFailure", fmt.Sprintf("No more IP addresses available on network %v.", p["network_id"]))
}

// changePort updates or deletes a port. Its MAC address is an administrator's
// to change, as in Neutron's default policy.
func (o *openstackAPIs) changePort(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.ports, func(p object) bool { return p["id"] == r.PathValue("id") })
	if i < 0 {
		neutronError(w, http.StatusNotFound, "PortNotFound", fmt.Sprintf("Port %s could not be found.", r.PathValue("id")))
		return
	}
	if r.Method == http.MethodDelete {
		o.ports = slices.Delete(o.ports, i, i+1)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var body struct{ Port object }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", err.Error())
		return
	}
	if _, mac := body.Port["mac_address"]; mac && !isAdmin(keystone.FromContext(r.Context())) {
		neutronError(w, http.StatusForbidden, "PolicyNotAuthorized", "rule:update_port is disallowed by policy")
		return
	}
	for key, value := range body.Port {
		o.ports[i][key] = value
	}
	reply(w, object{"port": o.ports[i]})
}

func reply(w http.ResponseWriter, body object) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func isAdmin(t *keystone.Token) bool { return slices.Contains(t.Roles, "admin") }

// page cuts out what follows the marker; next is the marker of the page after.
func page(all []object, marker string) (part []object, next string) {
	start := 1 + slices.IndexFunc(all, func(o object) bool { return o["id"] == marker })
	part = all[start:min(start+pageSize, len(all))]
	if start+pageSize < len(all) {
		next = part[len(part)-1]["id"].(string)
	}
	return part, next
}

// listFlavors shows public flavors and those of the caller's project; to an
// administrator who asks for it, all.
func (o *openstackAPIs) listFlavors(w http.ResponseWriter, r *http.Request) {
	caller := keystone.FromContext(r.Context())
	var seen []object
	for _, f := range o.flavors {
		id := f["id"].(string)
		if f["os-flavor-access:is_public"] == true || slices.Contains(o.access[id], caller.ProjectName) ||
			isAdmin(caller) && r.URL.Query().Get("is_public") == "None" {
			seen = append(seen, f)
		}
	}
	part, next := page(seen, r.URL.Query().Get("marker"))
	body := object{"flavors": part}
	if next != "" {
		body["flavors_links"] = []object{{"rel": "next", "href": o.URL + "/v2.1/flavors/detail?is_public=" + r.URL.Query().Get("is_public") + "&marker=" + next}}
	}
	reply(w, body)
}

func (o *openstackAPIs) listAccess(w http.ResponseWriter, r *http.Request) {
	if !isAdmin(keystone.FromContext(r.Context())) {
		http.Error(w, `{"forbidden":{"code":403}}`, http.StatusForbidden)
		return
	}
	all := []object{}
	for _, project := range o.access[r.PathValue("id")] {
		all = append(all, object{"flavor_id": r.PathValue("id"), "tenant_id": project})
	}
	reply(w, object{"flavor_access": all})
}

func (o *openstackAPIs) showsImage(caller *keystone.Token, i object) bool {
	return isAdmin(caller) || i["visibility"] == "public" || i["visibility"] == "community" || i["owner"] == caller.ProjectName ||
		slices.Contains(o.members[i["id"].(string)], caller.ProjectName)
}

func (o *openstackAPIs) listImages(w http.ResponseWriter, r *http.Request) {
	filter := r.URL.Query().Get("name")
	name, prefixed := strings.CutPrefix(filter, "eq:")
	if !prefixed && strings.Contains(filter, ":") {
		http.Error(w, "<h1>400 Bad Request</h1>Unable to filter by unknown operator", http.StatusBadRequest)
		return
	}
	caller := keystone.FromContext(r.Context())
	seen := []object{}
	for _, i := range o.images {
		if i["name"] == name && o.showsImage(caller, i) && (i["visibility"] != "community" || i["owner"] == caller.ProjectName) {
			seen = append(seen, i)
		}
	}
	part, next := page(seen, r.URL.Query().Get("marker"))
	body := object{"images": part, "schema": "/v2/schemas/images", "first": "/v2/images?name=" + filter}
	if next != "" {
		body["next"] = "/v2/images?name=" + filter + "&marker=" + next
	}
	reply(w, body)
}

func (o *openstackAPIs) showImage(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("id") == o.forbiddenImage {
		http.Error(w, "<h1>403 Forbidden</h1>", http.StatusForbidden)
		return
	}
	for _, i := range o.images {
		if i["id"] == r.PathValue("id") && o.showsImage(keystone.FromContext(r.Context()), i) {
			reply(w, i)
			return
		}
	}
	http.Error(w, "<h1>404 Not Found</h1>No image found", http.StatusNotFound)
}

func (o *openstackAPIs) listNetworks(kind string, all func() []object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seen := []object{}
		for _, n := range all() {
			matches := true
			for attribute, values := range r.URL.Query() {
				want := any(values[0])
				if b, err := strconv.ParseBool(values[0]); err == nil {
					want = b
				}
				matches = matches && (n[attribute] == want || attribute == "marker")
			}
			if matches {
				seen = append(seen, n)
			}
		}
		reply(w, object{kind: seen})
	}
}

// serve starts the server.
func (o *openstackAPIs) serve(t *testing.T) {
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		handler := o.handler
		if o.trick != nil {
			handler = o.trick
		}
		o.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
}

// guard makes the server check tokens with that middleware.
func (o *openstackAPIs) guard(authenticate func(http.Handler) http.Handler) {
	routes := o.routes()
	handler := authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.requests = append(o.requests, r.URL.RequestURI())
		if r.Header.Get("X-Service-Token") != "" {
			o.serviceTokens++
		}
		o.mu.Unlock()
		routes.ServeHTTP(w, r)
	}))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = handler
}

func (o *openstackAPIs) play(trick http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trick = trick
}

// asked are the requests since the last call.
func (o *openstackAPIs) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.requests
	o.requests = nil
	return all
}

// land is a cloud: a Keystone and the other services in its catalogue.
type land struct {
	t        *testing.T
	url      string
	password string
	region   string
	apis     *openstackAPIs
	register func(serviceType, url string) // puts a service into the catalogue
}

// The users demo and alt_demo are members of the projects of their name,
// keelson has the role service, admin is an administrator.
var projectOfUser = map[string]string{"demo": "demo", "alt_demo": "alt_demo", "keelson": "service", "admin": "admin"}

// eachLand runs the test with the built-in identity service and with Keystone.
// The services are in the catalogue if registered.
func eachLand(t *testing.T, registered bool, test func(t *testing.T, l *land)) {
	builtInLand(t, registered, test)
	t.Run("keystone", func(t *testing.T) {
		l := &land{
			t: t, url: testenv.Require(t, testenv.Keystone), password: testenv.Require(t, testenv.KeystonePassword),
			region: "keelson-test-" + uuid.NewString(), apis: newAPIs(),
		}
		l.apis.serve(t)
		l.register = l.registerForReal()
		l.arrange(registered, test)
	})
}

// builtInLand runs the test with the built-in identity service alone.
func builtInLand(t *testing.T, registered bool, test func(t *testing.T, l *land)) {
	t.Run("built-in", func(t *testing.T) {
		config := identity.Config{}
		for user, project := range projectOfUser {
			role := map[string]string{"keelson": "service", "admin": "admin"}[user]
			if role == "" {
				role = "member"
			}
			config.Projects = append(config.Projects, identity.Project{ID: project, Name: project})
			config.Users = append(config.Users, identity.User{Name: user, Password: "secret", Roles: map[string][]string{project: {role}}})
		}
		l := &land{t: t, password: "secret", apis: newAPIs()}
		// The services need the identity server's address and it needs theirs.
		var handler http.Handler
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
		t.Cleanup(server.Close)
		l.url = server.URL + "/v3"
		l.apis.serve(t)
		restart := func() {
			s, err := identity.New(config)
			if err != nil {
				t.Fatal(err)
			}
			handler = s
		}
		l.register = func(serviceType, url string) {
			config.Services = append(config.Services, identity.Service{Type: serviceType, Name: serviceType, URL: url})
			restart()
		}
		restart()
		l.arrange(registered, test)
	})
}

func (l *land) arrange(registered bool, test func(t *testing.T, l *land)) {
	l.apis.guard(l.authenticate(keystone.NewCache(l.session("keelson"), keystone.CacheOptions{})))
	if registered {
		l.register("compute", l.apis.URL+"/v2.1")
		l.register("image", l.apis.URL)
		l.register("network", l.apis.URL+"/")
	}
	test(l.t, l)
}

// registerForReal makes services in a region that is there for one test, so
// that they are nobody else's.
func (l *land) registerForReal() func(serviceType, url string) {
	ctx := l.t.Context()
	must := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	admin, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: l.url, Username: "admin", Password: l.password, DomainID: "default",
		Scope: &gophercloud.AuthScope{ProjectName: "admin", DomainID: "default"},
	})
	must(err)
	client, err := openstack.NewIdentityV3(admin, gophercloud.EndpointOpts{})
	must(err)
	_, err = regions.Create(ctx, client, regions.CreateOpts{ID: l.region}).Extract()
	must(err)
	cleanup := func(remove func() error) {
		l.t.Cleanup(func() {
			if err := remove(); err != nil {
				l.t.Error(err)
			}
		})
	}
	after := context.WithoutCancel(ctx)
	cleanup(func() error { return regions.Delete(after, client, l.region).ExtractErr() })
	return func(serviceType, url string) {
		s, err := services.Create(ctx, client, services.CreateOpts{Type: serviceType, Name: l.region}).Extract()
		must(err)
		cleanup(func() error { return services.Delete(after, client, s.ID).ExtractErr() })
		e, err := endpoints.Create(ctx, client, endpoints.CreateOpts{
			Availability: gophercloud.AvailabilityPublic, Name: serviceType, Region: l.region, URL: url, ServiceID: s.ID,
		}).Extract()
		must(err)
		cleanup(func() error { return endpoints.Delete(after, client, e.ID).ExtractErr() })
	}
}

// session is Keelson's own, as that user.
func (l *land) session(user string) *keystone.Client {
	l.t.Helper()
	client, err := keystone.NewClient(keystone.Options{AuthURL: l.url, Username: user, Password: l.password, ProjectName: projectOfUser[user]})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(client.Close)
	return client
}

// authenticate checks tokens as Nova and its like do.
func (l *land) authenticate(v keystone.Validator) func(http.Handler) http.Handler {
	return keystone.Middleware(v, l.url, nil, keystone.ServiceTokenRoles([]string{"service", "admin"}, true))
}

func (l *land) login(user string) *gophercloud.ProviderClient {
	l.t.Helper()
	client, err := openstack.AuthenticatedClient(l.t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: l.url, Username: user, Password: l.password, DomainID: "default",
		Scope: &gophercloud.AuthScope{ProjectName: projectOfUser[user], DomainID: "default"},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

func (l *land) revoke(token string) {
	l.t.Helper()
	client, err := openstack.NewIdentityV3(l.login("admin"), gophercloud.EndpointOpts{})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := tokens.Revoke(l.t.Context(), client, token).Err; err != nil {
		l.t.Fatal(err)
	}
}

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func newAPIs() *openstackAPIs {
	flavor := func(id, name string, vcpus, ram, disk int, public bool) object {
		return object{
			"id": id, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk, "swap": "", "rxtx_factor": 1.0,
			"OS-FLV-EXT-DATA:ephemeral": 0, "os-flavor-access:is_public": public, "links": []object{},
		}
	}
	image := func(n int, name, visibility, owner string, more object) object {
		i := object{
			"id": id(n), "name": name, "visibility": visibility, "owner": owner, "status": "active", "tags": []string{}, "size": 1, "virtual_size": nil,
			"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "min_disk": 0, "min_ram": 0, "protected": false,
			"file": "/v2/images/x/file", "schema": "/v2/schemas/image", "checksum": nil, "container_format": "bare", "disk_format": "raw", "os_hidden": false,
		}
		for key, value := range more {
			i[key] = value
		}
		return i
	}
	debian := object{"os_distro": "debian"}
	return &openstackAPIs{
		flavors: []object{
			flavor("1", "m1.tiny", 1, 512, 1, true), flavor("2", "m1.small", 1, 2048, 20, true),
			flavor("3", "m1.nodisk", 2, 4096, 0, true), flavor("4", "2", 8, 8192, 80, true), // named as another's id
			flavor("5", "demo.only", 4, 8192, 40, false),
		},
		access:   map[string][]string{"5": {"demo"}},
		keypairs: map[string][]string{"demo": {"my key_1"}, "alt_demo": {"theirs"}},
		images: []object{
			image(1, "node", "public", "admin", debian),
			image(2, "tagged", "public", "admin", object{"os_distro": "fedora", NodeImageProperty: "node-2026"}),
			image(3, "strange", "public", "admin", object{"os_distro": "debian", NodeImageProperty: "../../etc"}),
			image(4, "cirros", "public", "admin", debian),
			image(5, "bare", "public", "admin", nil),
			image(6, "mine", "private", "demo", object{"os_distro": "debian", NodeImageProperty: "node-2026"}),
			image(7, "given", "shared", "alt_demo", object{"os_distro": "debian", NodeImageProperty: "node-2026"}),
			image(8, "twins", "public", "admin", debian), image(9, "twins", "public", "admin", debian), image(10, "twins", "public", "admin", debian),
			image(11, "namesake", "private", "demo", object{"os_distro": "debian", NodeImageProperty: "node-2026"}),
			image(13, "debian:12", "public", "admin", object{"os_distro": "debian", NodeImageProperty: "node-2026"}),
			image(14, "everyone", "community", "alt_demo", object{"os_distro": "debian", NodeImageProperty: "node-2026"}),
			image(12, "namesake", "private", "alt_demo", object{"os_distro": "fedora", NodeImageProperty: "node-2026"}),
		},
		members:        map[string][]string{id(7): {"demo"}},
		forbiddenImage: id(99),
		networks: []object{
			{"id": id(21), "name": "public", "router:external": true},
			{"id": id(22), "name": "inner", "router:external": false},
			{"id": id(23), "name": "pair", "router:external": true},
			{"id": id(24), "name": "pair", "router:external": true},
		},
		subnets: []object{{"id": id(31), "name": "inner-v4"}, {"id": id(32), "name": "pair"}, {"id": id(33), "name": "pair"}},
	}
}

// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"go.uber.org/goleak"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/keystone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var own = &Configured{
	Flavors:       []Flavor{{Name: "keelson.standard", VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20}},
	DefaultFlavor: "keelson.standard",
	Images:        []Image{{Name: "node", Distro: "configured", NodeImage: "node-2025"}, {Name: "other", Distro: "configured", NodeImage: "node-2026"}},
	Networks:      []Network{{Name: "tenants", External: true}},
}

var everything = CloudOptions{Flavors: true, Images: true, Networks: true, Keypairs: true, CacheTime: time.Minute, DiskGiB: 25}

// cloud is the catalogue as Keelson has it, logged in as that user.
func (l *land) cloud(user string, options CloudOptions) *Cloud {
	l.t.Helper()
	options.Region = l.region
	return NewCloud(own, l.session(user), options)
}

// as is the context of that user's request.
func (l *land) as(user string) context.Context {
	l.t.Helper()
	text := l.login(user).Token()
	token, err := l.session("keelson").Validate(l.t.Context(), text)
	if err != nil {
		l.t.Fatal(err)
	}
	return keystone.NewContext(l.t.Context(), token, text)
}

// isErr tells whether got is want; nil is only nil.
func isErr(got, want error) bool { return errors.Is(got, want) && (want != nil || got == nil) }

// errUnfit stands for an error that is permanent and has words for the user.
var errUnfit = errors.New("no node can be made from it")

func wants(t *testing.T, what string, got, want error) {
	t.Helper()
	if want == errUnfit && fault.IsPermanent(got) && fault.Reason(got, "") != "" {
		return
	}
	if !isErr(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestLookUpsInAUsersName(t *testing.T) {
	eachLand(t, true, func(t *testing.T, l *land) {
		c, demo, alt := l.cloud("keelson", everything), l.as("demo"), l.as("alt_demo")
		for _, row := range []struct {
			who   context.Context
			ident string
			want  Flavor
			err   error
		}{
			{demo, "m1.small", Flavor{"m1.small", 1, 2048, 20}, nil},
			{demo, "2", Flavor{"m1.small", 1, 2048, 20}, nil}, // the id wins
			{demo, "4", Flavor{"2", 8, 8192, 80}, nil},
			{demo, "m1.nodisk", Flavor{"m1.nodisk", 2, 4096, 25}, nil},
			{demo, "demo.only", Flavor{"demo.only", 4, 8192, 40}, nil},
			{alt, "demo.only", Flavor{}, ErrNotFound},
			{demo, "keelson.standard", Flavor{}, ErrNotFound},
			{demo, "", own.Flavors[0], nil},
		} {
			got, err := c.Flavor(row.who, row.ident)
			if wants(t, "flavor "+row.ident, err, row.err); got != row.want {
				t.Errorf("flavor %q: %+v, want %+v", row.ident, got, row.want)
			}
		}
		for _, row := range []struct {
			who   context.Context
			ident string
			want  Image
			err   error
		}{
			{demo, "node", Image{"node", "debian", "node-2025"}, nil},
			{demo, id(1), Image{"node", "debian", "node-2025"}, nil},
			{demo, "tagged", Image{"tagged", "fedora", "node-2026"}, nil},
			{demo, "mine", Image{"mine", "debian", "node-2026"}, nil},
			{alt, "mine", Image{}, ErrNotFound},
			{alt, id(6), Image{}, ErrNotFound},
			{demo, "given", Image{"given", "debian", "node-2026"}, nil},
			{demo, "namesake", Image{"namesake", "debian", "node-2026"}, nil},
			{alt, "namesake", Image{"namesake", "fedora", "node-2026"}, nil},
			{demo, "debian:12", Image{"debian:12", "debian", "node-2026"}, nil},
			{demo, id(14), Image{"everyone", "debian", "node-2026"}, nil},
			{demo, "everyone", Image{}, ErrNotFound}, // Glance lists no community images
			{demo, "twins", Image{}, ErrAmbiguous},
			{demo, "nothing", Image{}, ErrNotFound},
			{demo, id(50), Image{}, ErrNotFound},
			{demo, id(99), Image{}, ErrForbidden},
			{demo, "strange", Image{}, errUnfit},
			{demo, "cirros", Image{}, errUnfit},
			{demo, "bare", Image{}, errUnfit},
		} {
			got, err := c.Image(row.who, row.ident)
			if wants(t, "image "+row.ident, err, row.err); got != row.want {
				t.Errorf("image %q: %+v, want %+v", row.ident, got, row.want)
			}
		}
		for _, row := range []struct {
			what   string
			lookUp func(context.Context, string) error
			who    context.Context
			ident  string
			err    error
		}{
			{"external network", c.ExternalNetwork, demo, "public", nil},
			{"external network", c.ExternalNetwork, demo, id(21), nil},
			{"external network", c.ExternalNetwork, demo, "inner", ErrNotFound},
			{"external network", c.ExternalNetwork, demo, id(22), ErrNotFound},
			{"external network", c.ExternalNetwork, demo, "pair", ErrAmbiguous},
			{"external network", c.ExternalNetwork, demo, id(23), nil},
			{"external network", c.ExternalNetwork, demo, "tenants", ErrNotFound},
			{"fixed network", c.FixedNetwork, demo, "inner", nil},
			{"fixed network", c.FixedNetwork, demo, "nothing", ErrNotFound},
			{"fixed subnet", c.FixedSubnet, demo, "inner-v4", nil},
			{"fixed subnet", c.FixedSubnet, demo, id(31), nil},
			{"fixed subnet", c.FixedSubnet, demo, "inner", ErrNotFound},
			{"fixed subnet", c.FixedSubnet, demo, "pair", ErrAmbiguous},
			{"keypair", c.Keypair, demo, "my key_1", nil},
			{"keypair", c.Keypair, alt, "my key_1", ErrNotFound},
			{"keypair", c.Keypair, demo, "..", ErrNotFound},
		} {
			wants(t, row.what+" "+row.ident, row.lookUp(row.who, row.ident), row.err)
		}
		if asked := len(l.apis.asked()); asked != l.apis.serviceTokens {
			t.Errorf("%d requests, %d with a service token", asked, l.apis.serviceTokens)
		}
	})
}

// The conductor has no user. If its own user is an administrator, it finds
// what the cluster's project may use, and nothing of other projects.
func TestLookUpsForAProject(t *testing.T) {
	builtInLand(t, true, func(t *testing.T, l *land) {
		// The fixture's owners and members are names; ids are not needed.
		demo, alt := WithProject(t.Context(), "demo"), WithProject(t.Context(), "alt_demo")
		admin, plain := l.cloud("admin", everything), l.cloud("keelson", everything)
		for _, row := range []struct {
			what  string
			cloud *Cloud
			who   context.Context
			ident string
			err   error
		}{
			{"a public flavor", admin, demo, "m1.small", nil},
			{"a private flavor", admin, demo, "demo.only", nil},
			{"a private flavor of another project", admin, alt, "demo.only", ErrNotFound},
			{"a private flavor, for nobody", admin, t.Context(), "5", ErrNotFound},
			{"a public flavor, no administrator", plain, demo, "m1.small", nil},
			{"a private flavor, no administrator", plain, demo, "demo.only", ErrNotFound},
		} {
			_, err := row.cloud.Flavor(row.who, row.ident)
			wants(t, row.what, err, row.err)
		}
		for _, row := range []struct {
			what  string
			cloud *Cloud
			who   context.Context
			ident string
			err   error
		}{
			{"a public image", admin, demo, "node", nil},
			{"a private image", admin, demo, "mine", nil},
			{"a private image of another project", admin, alt, "mine", ErrNotFound},
			{"the same by id", admin, alt, id(6), ErrNotFound},
			{"a shared image", admin, demo, "given", nil},
			{"a shared image by id", admin, demo, id(7), nil},
			{"an image shared with others", admin, WithProject(t.Context(), "admin"), "given", ErrNotFound},
			{"a name that two projects have", admin, demo, "namesake", nil},
			{"a private image, no administrator", plain, demo, "mine", ErrNotFound},
		} {
			_, err := row.cloud.Image(row.who, row.ident)
			wants(t, row.what, err, row.err)
		}
		if got, err := admin.Image(alt, "namesake"); err != nil || got.Distro != "fedora" {
			t.Errorf("a name that two projects have: %+v, %v", got, err)
		}
		wants(t, "a keypair", admin.Keypair(demo, "whatever"), nil)
	})
}

// A create looks up the same things several times over; each is asked for once.
func TestAnswersAreRememberedForAWhile(t *testing.T) {
	builtInLand(t, true, func(t *testing.T, l *land) {
		ask := func(c *Cloud, who context.Context) int {
			t.Helper()
			l.apis.asked()
			for range 3 {
				_, flavor := c.Flavor(who, "m1.tiny")
				_, image := c.Image(who, "node")
				if err := errors.Join(flavor, image, c.ExternalNetwork(who, "public"), c.Keypair(who, "my key_1")); err != nil {
					t.Fatal(err)
				}
			}
			return len(l.apis.asked())
		}
		c, demo := l.cloud("keelson", everything), l.as("demo")
		const once = 3 + 1 + 1 + 1 // Nova has three pages of flavors
		if n := ask(c, demo); n != once {
			t.Errorf("%d requests", n)
		}
		if n := ask(c, l.as("demo")); n != 0 {
			t.Errorf("%d requests, with another token of the same user", n)
		}
		l.apis.keypairs["alt_demo"] = []string{"my key_1"}
		if n := ask(c, l.as("alt_demo")); n != once-1 { // and two for those who see fewer
			t.Errorf("%d requests of another user", n)
		}
		forgetful := everything
		forgetful.CacheTime = 0
		if n := ask(l.cloud("keelson", forgetful), demo); n != 3*once {
			t.Errorf("%d requests without a cache", n)
		}
		// What is not there may be made the next moment.
		wants(t, "no such keypair", c.Keypair(demo, "new"), ErrNotFound)
		l.apis.keypairs["demo"] = append(l.apis.keypairs["demo"], "new")
		wants(t, "the new keypair", c.Keypair(demo, "new"), nil)
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(time.Hour)
	for i := range 3*cacheSize + 1 {
		name := fmt.Sprint(i)
		if got, err := remembered(t.Context(), c, "flavor", name, func() (string, error) { return name, nil }); err != nil || got != name {
			t.Fatal(got, err)
		}
		if len(c.answers) > cacheSize {
			t.Fatalf("%d answers are kept", len(c.answers))
		}
	}
}

// Only what the service catalogue has, in Keelson's region, is asked; the rest
// is configured. What an operator wants configured is, in any case.
func TestServicesThatAreNotThere(t *testing.T) {
	configured := func(t *testing.T, c *Cloud, who context.Context) {
		t.Helper()
		f, flavor := c.Flavor(who, "keelson.standard")
		i, image := c.Image(who, "other")
		if err := errors.Join(flavor, image, c.ExternalNetwork(who, "tenants"), c.FixedNetwork(who, "x"), c.FixedSubnet(who, "x"), c.Keypair(who, "x")); err != nil {
			t.Fatal(err)
		}
		if f != own.Flavors[0] || i != own.Images[1] {
			t.Errorf("%+v, %+v", f, i)
		}
		_, flavor = c.Flavor(who, "m1.small")
		_, image = c.Image(who, "tagged")
		wants(t, "Nova's flavor", flavor, ErrNotFound)
		wants(t, "Glance's image", image, ErrNotFound)
		wants(t, "Neutron's network", c.ExternalNetwork(who, "public"), ErrNotFound)
	}
	eachLand(t, false, func(t *testing.T, l *land) {
		demo := l.as("demo")
		configured(t, l.cloud("keelson", everything), demo)
		l.register("image", l.apis.URL+"/v2/")
		l.register("compute", l.apis.URL+"/v2.1/0123456789abcdef")
		demo = l.as("demo") // the built-in identity service has begun anew
		c := l.cloud("keelson", everything)
		if _, err := c.Image(demo, "tagged"); err != nil {
			t.Errorf("Glance is there: %v", err)
		}
		if _, err := c.Flavor(demo, "m1.small"); err != nil {
			t.Errorf("Nova is there: %v", err)
		}
		wants(t, "Neutron is not there", c.ExternalNetwork(demo, "tenants"), nil)

		inside := everything
		inside.Interface = "internal"
		if l.region != "" { // the built-in identity service has one address for all interfaces
			_, err := l.cloud("keelson", inside).Image(demo, "tagged")
			wants(t, "Glance has no such endpoint", err, ErrUnavailable)
			elsewhere := NewCloud(own, l.session("keelson"), CloudOptions{Images: true, Region: "elsewhere"})
			if i, err := elsewhere.Image(demo, "other"); err != nil || i != own.Images[1] {
				t.Errorf("another region: %+v, %v", i, err)
			}
		}
		l.register("network", l.apis.URL)
		l.apis.asked()
		configured(t, l.cloud("keelson", CloudOptions{}), l.as("demo"))
		if asked := l.apis.asked(); len(asked) != 0 {
			t.Errorf("asked for %v", asked)
		}
	})
}

func TestAddresses(t *testing.T) {
	for _, row := range []struct {
		service       service
		endpoint, url string
	}{
		{compute, "http://nova:8774", "http://nova:8774/v2.1/"},
		{compute, "http://nova:8774/v2.1", "http://nova:8774/v2.1/"},
		{compute, "http://nova:8774/v2.1/0123456789abcdef/", "http://nova:8774/v2.1/"},
		{compute, "http://nova:8774/v2/0123456789abcdef", "http://nova:8774/v2.1/"},
		{compute, "https://cloud/compute/v2.1", "https://cloud/compute/v2.1/"},
		{image, "http://glance:9292/", "http://glance:9292/v2/"},
		{image, "http://glance:9292/v2", "http://glance:9292/v2/"},
		{image, "https://cloud/image", "https://cloud/image/v2/"},
		{image, "https://v2.cloud/image", "https://v2.cloud/image/v2/"},
		{network, "http://neutron:9696", "http://neutron:9696/v2.0/"},
		{network, "http://neutron:9696/v2.0/", "http://neutron:9696/v2.0/"},
	} {
		if got := row.service.address(row.endpoint); got != row.url {
			t.Errorf("%s: %s, want %s", row.endpoint, got, row.url)
		}
	}
}

// However a service fails, what it knows is neither there nor not there.
func TestServicesThatFail(t *testing.T) {
	builtInLand(t, true, func(t *testing.T, l *land) {
		options := everything
		options.CacheTime = 0
		demo := l.as("demo")
		session, err := keystone.NewClient(keystone.Options{
			AuthURL: l.url, Username: "keelson", Password: l.password, ProjectName: "service", Timeout: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		options.Region = l.region
		options.CacheTime = time.Hour // of the service catalogue; failures are not remembered
		c := NewCloud(own, session, options)
		status := func(code int, body string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(code)
				fmt.Fprint(w, body, r.Header.Get("X-Auth-Token"))
			}
		}
		for what, trick := range map[string]http.HandlerFunc{
			"500":                status(500, "boom "),
			"503":                status(503, ""),
			"429":                status(429, ""),
			"400":                status(400, ""),
			"a redirect":         http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP,
			"a page":             func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
			"half JSON":          status(200, `{"flavors": [{`),
			"JSON of a new kind": status(200, `["flavors"]`+"\n//"),
			"an unknown path":    http.NotFound,
			"it hangs":           func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"connections break": func(w http.ResponseWriter, _ *http.Request) {
				if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
					connection.(*net.TCPConn).SetLinger(0)
					connection.Close()
				}
			},
		} {
			l.apis.play(trick)
			_, flavor := c.Flavor(demo, "m1.small")
			_, image := c.Image(demo, id(1))
			if what == "it hangs" { // the others hang alike, and each takes a second
				wants(t, what, flavor, ErrUnavailable)
				continue
			}
			_, named := c.Image(demo, "node")
			_, own := c.Flavor(t.Context(), "m1.small")
			for kind, err := range map[string]error{
				"flavor": flavor, "image": image, "image by name": named, "flavor without a user": own, "keypair": c.Keypair(demo, "x"),
				"external network": c.ExternalNetwork(demo, id(21)), "network": c.FixedNetwork(demo, "inner"), "subnet": c.FixedSubnet(demo, "x"),
			} {
				wants(t, what+", "+kind, err, ErrUnavailable)
				if err != nil && strings.Contains(err.Error(), keystone.UserToken(demo)) {
					t.Errorf("%s: the error has the token: %v", what, err)
				}
			}
		}
		l.apis.play(status(403, "{}"))
		_, err = c.Flavor(demo, "m1.small")
		wants(t, "the user may not", err, ErrForbidden)
		_, err = c.Flavor(t.Context(), "m1.small")
		wants(t, "Keelson itself may not", err, ErrUnavailable)
		l.apis.play(nil)
		if _, err := c.Flavor(demo, "m1.small"); err != nil {
			t.Errorf("all is well again: %v", err)
		}
	})
}

// Keelson's own token ends now and then, and so does a user's.
func TestTokensThatEnd(t *testing.T) {
	eachLand(t, true, func(t *testing.T, l *land) {
		options := everything
		options.CacheTime = 0
		c, demo := l.cloud("keelson", options), l.as("demo")
		l.apis.guard(l.authenticate(l.session("keelson"))) // the services see revocations at once
		ownToken := func() string {
			t.Helper()
			var text string
			err := c.session.Call(t.Context(), l.url+"/", func(_ context.Context, s *gophercloud.ServiceClient) error {
				text = s.Token()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		for range 2 {
			for _, who := range []context.Context{demo, t.Context()} {
				if _, err := c.Flavor(who, "m1.small"); err != nil {
					t.Fatal(err)
				}
				l.revoke(ownToken())
			}
		}
		l.revoke(keystone.UserToken(demo))
		_, err := c.Flavor(demo, "m1.small")
		wants(t, "a revoked user", err, keystone.ErrInvalidToken)
	})
}

// While Keystone is away, a service catalogue that is known serves on; without
// one nobody can say what is configured and what is not.
func TestKeystoneAway(t *testing.T) {
	client, err := keystone.NewClient(keystone.Options{AuthURL: "http://127.0.0.1:1/v3", Username: "keelson", Password: "x", ProjectName: "service"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := NewCloud(own, client, everything)
	_, err = c.Flavor(t.Context(), "keelson.standard")
	wants(t, "nothing is known", err, keystone.ErrUnavailable)
	c.entries = []tokens.CatalogEntry{{Type: "identity"}}
	if f, err := c.Flavor(t.Context(), "keelson.standard"); err != nil || f != own.Flavors[0] {
		t.Errorf("a catalogue without Nova is known: %+v, %v", f, err)
	}
}

func TestReach(t *testing.T) {
	eachLand(t, true, func(t *testing.T, l *land) {
		reached := l.cloud("keelson", everything).Reach(t.Context())
		if len(reached) != 3 {
			t.Fatalf("got %+v", reached)
		}
		for _, r := range reached {
			if r.Endpoint == "" || r.Err != nil {
				t.Errorf("%s at %q: %v", r.Service, r.Endpoint, r.Err)
			}
		}
		l.apis.play(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret", http.StatusForbidden) })
		for _, r := range l.cloud("keelson", CloudOptions{Images: true}).Reach(t.Context()) {
			if !errors.Is(r.Err, ErrUnavailable) || !strings.Contains(r.Err.Error(), "403") || strings.Contains(r.Err.Error(), "secret") {
				t.Errorf("%s: %v", r.Service, r.Err)
			}
		}
	})
}

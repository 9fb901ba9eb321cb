// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/keelson/keelson/api/openapitest"
)

// The programs under test, built once, and the cloud that tests share.
var (
	keelson, keelsond string
	shared            *cloud
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "keelson-cli")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		for _, program := range []struct {
			path *string
			name string
		}{{&keelson, "keelson"}, {&keelsond, "keelsond"}} {
			*program.path = filepath.Join(dir, program.name)
			build := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-buildvcs=false", "-o", *program.path, "../../cmd/"+program.name)
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %s: %v\n%s", program.name, err, out)
				return 1
			}
		}
		shared, err = newCloud(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if err := shared.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

// configuration is that of the demo without root: everything is built in, and
// hosts are simulated.
var configuration = template.Must(template.New("").Parse(`[DEFAULT]
state_path = {{.Dir}}
transport_url = memory://
[api]
host = 127.0.0.1
port = {{index .Ports 0}}
public_endpoint = {{.Front}}
[database]
connection = sqlite:///{{.Dir}}/keelson.sqlite
[identity]
enabled = true
host = 127.0.0.1
port = {{index .Ports 1}}
admin_password = admin
demo_password = demo
[ironic]
builtin = true
builtin_port = {{index .Ports 2}}
builtin_node = host-1:64:65536:1000:sim://{{.Dir}}/host
image = file:///dev/null
poll_interval = 0.05
[hosts]
cpu_allocation_ratio = 8
[network]
network = public:127.77.0.0/24:127.77.0.1:127.77.0.10-127.77.0.250
default_network = public
[images]
image = node:debian:node
image = missing:debian:missing
[drivers]
enabled = fake,kubernetes
[conductor]
poll_interval = 1
step_timeout = 120
`))

// cloud is one running keelsond. The catalogue leads clients to front, which
// counts requests and holds them and the answers against the API's document.
type cloud struct {
	dir      string
	keystone string
	front    *httptest.Server
	daemon   *exec.Cmd
	log      bytes.Buffer

	mu       sync.Mutex
	requests []string // method and path
	bodies   []string
	wrong    []error
}

func newCloud(dir string) (*cloud, error) {
	c := &cloud{dir: dir, front: httptest.NewUnstartedServer(nil)}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = configuration.Execute(&text, map[string]any{"Dir": dir, "Ports": ports, "Front": "http://" + c.front.Listener.Addr().String()})
	if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, "host", "images", "node"), 0o700)); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "keelson.conf")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, err
	}
	c.daemon = exec.Command(keelsond, "all-in-one", "--config-file", file)
	c.daemon.Stdout, c.daemon.Stderr = &c.log, &c.log
	if err := c.daemon.Start(); err != nil {
		return nil, err
	}
	api := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	c.keystone = fmt.Sprintf("http://127.0.0.1:%d/v3", ports[1])
	var document []byte
	for deadline := time.Now().Add(2 * time.Minute); document == nil; time.Sleep(20 * time.Millisecond) {
		if document, err = fetch(api + "/openapi.yaml"); err != nil && time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("keelsond does not answer: %w\n%s", err, &c.log), c.daemon.Process.Kill())
		}
	}
	checks, err := openapitest.Load(document)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(api)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // links lead here, too
	}}
	checked := checks.Handler(proxy, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wrong = append(c.wrong, err)
	})
	c.front.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c.mu.Lock()
		c.requests = append(c.requests, r.Method+" "+r.URL.Path)
		c.bodies = append(c.bodies, string(body))
		c.mu.Unlock()
		if strings.Contains(r.Header.Get("Accept"), "event-stream") {
			proxy.ServeHTTP(w, r) // never ends, and so can not be checked as a whole
			return
		}
		checked.ServeHTTP(w, r)
	})
	c.front.Start()
	return c, nil
}

// freePorts are ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func fetch(where string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	return io.ReadAll(answer.Body)
}

// end stops the cloud and tells what was wrong with it.
func (c *cloud) end() error {
	c.front.CloseClientConnections()
	c.front.Close()
	_ = c.daemon.Process.Signal(syscall.SIGTERM)
	err := c.daemon.Wait()
	if strings.Contains(c.log.String(), "status=500") {
		err = errors.Join(err, errors.New("a request was answered with 500"))
	}
	if err := errors.Join(append(c.wrong, err)...); err != nil {
		return fmt.Errorf("%w\nkeelsond said:\n%s", err, tail(c.log.String(), 8000))
	}
	return nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// seen returns the requests and bodies since it was last asked.
func (c *cloud) seen() (requests, bodies []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests, bodies = c.requests, c.bodies
	c.requests, c.bodies = nil, nil
	return requests, bodies
}

// hostAnswers lets the simulated host be there, or away.
func (c *cloud) hostAnswers(t *testing.T, answers bool) {
	t.Helper()
	here, away := filepath.Join(c.dir, "host"), filepath.Join(c.dir, "host.away")
	from, to := away, here
	if !answers {
		from, to = here, away
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// person is somebody at a shell, with a home of his own.
type person struct {
	*testing.T
	cloud *cloud
	env   []string
	home  string
}

// somebody is the user demo.
func somebody(t *testing.T) *person {
	t.Helper()
	return userOf(t, shared)
}

// somebodyElsewhere is the user demo of a cloud whose host may fail: hosts that
// do are given no nodes for a while.
func somebodyElsewhere(t *testing.T) *person {
	t.Helper()
	c, err := newCloud(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
	return userOf(t, c)
}

func userOf(t *testing.T, c *cloud) *person {
	t.Helper()
	p := &person{T: t, cloud: c, home: t.TempDir()}
	p.env = environment(c, p.home)
	p.must("templates") // logged in
	t.Cleanup(func() { p.cloud.seen() })
	return p
}

// environment is that of the user demo of a cloud.
func environment(c *cloud, home string) []string {
	return []string{
		"HOME=" + home, "PATH=" + filepath.Dir(keelson) + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=xterm", "SHELL=/bin/bash",
		"OS_AUTH_URL=" + c.keystone, "OS_USERNAME=demo", "OS_PASSWORD=demo", "OS_PROJECT_NAME=demo",
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=RegionOne",
	}
}

// with is the same person with these variables: "NAME=value", or "NAME" for
// one that is not set.
func (p *person) with(variables ...string) *person {
	other := *p
	other.env = slices.Clone(p.env)
	for _, v := range variables {
		name, _, set := strings.Cut(v, "=")
		other.env = slices.DeleteFunc(other.env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if set {
			other.env = append(other.env, v)
		}
	}
	return &other
}

// result is what came of a command.
type result struct {
	code     int
	out, err string
}

func (p *person) command(args ...string) *exec.Cmd {
	c := exec.Command(keelson, args...)
	c.Env = p.env
	c.Dir = p.home
	return c
}

// run runs keelson to its end.
func (p *person) run(args ...string) result {
	p.Helper()
	c := p.command(args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		p.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer stuck.Stop()
	_ = c.Wait()
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs a command that has to succeed, and returns what it printed.
func (p *person) must(args ...string) string {
	p.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.Fatalf("keelson %s: code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// fails runs a command that has to fail with that code and say these words.
func (p *person) fails(code int, words string, args ...string) {
	p.Helper()
	r := p.run(args...)
	if r.code != code || !strings.Contains(r.err, words) {
		p.Errorf("keelson %s: code %d, want %d and the words %q\n%s%s", strings.Join(args, " "), r.code, code, words, r.out, r.err)
	}
}

// field is one field of what `keelson get` shows.
func (p *person) field(cluster, field string) string {
	p.Helper()
	return strings.TrimSpace(p.must("get", cluster, "-f", "value", "-c", field))
}

// template makes a cluster template with that image, once.
func (p *person) template(name, image string) {
	p.Helper()
	if p.run("templates", name).code == 0 {
		return
	}
	p.post("/v1/clustertemplates", map[string]any{"name": name, "coe": "swarm-mode", "image_id": image, "flavor_id": "m1.small", "external_network_id": "public"})
}

// post calls the API past the command.
func (p *person) post(path string, body any) {
	p.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	request, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.cloud.front.URL+path, bytes.NewReader(text))
	if err != nil {
		p.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Auth-Token", p.session()["token"].(string))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode >= 300 {
		p.Fatalf("POST %s: %s: %s", path, answer.Status, text)
	}
}

// sessionFile is the file that a session is kept in.
func (p *person) sessionFile() string {
	p.Helper()
	files, err := filepath.Glob(filepath.Join(p.home, ".cache", "keelson", "session-*.json"))
	if err != nil || len(files) != 1 {
		p.Fatalf("there are sessions %v (%v), want one", files, err)
	}
	return files[0]
}

func (p *person) session() map[string]any {
	p.Helper()
	text, err := os.ReadFile(p.sessionFile())
	if err != nil {
		p.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		p.Fatal(err)
	}
	return s
}

// removed deletes the cluster when the test ends.
func (p *person) removed(cluster string) {
	p.Cleanup(func() {
		if r := p.run("delete", cluster, "--yes", "--wait"); r.code != 0 && r.code != 3 {
			p.Errorf("deleting %s: %s", cluster, r.err)
		}
	})
}

// credential is an application credential.
type credential struct{ ID, Secret string }

// applicationCredential makes one at Keystone.
func (p *person) applicationCredential() credential {
	p.Helper()
	token := p.session()["token"].(string)
	call := func(method, path string, body string, out any) {
		request, err := http.NewRequestWithContext(p.Context(), method, p.cloud.keystone+path, strings.NewReader(body))
		if err != nil {
			p.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Auth-Token", token)
		request.Header.Set("X-Subject-Token", token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			p.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		if err := json.NewDecoder(answer.Body).Decode(out); err != nil || answer.StatusCode >= 300 {
			p.Fatalf("%s %s: %s, %v", method, path, answer.Status, err)
		}
	}
	var me struct {
		Token struct{ User struct{ ID string } }
	}
	call(http.MethodGet, "/auth/tokens", "", &me)
	var made struct {
		Credential credential `json:"application_credential"`
	}
	call(http.MethodPost, "/users/"+me.Token.User.ID+"/application_credentials", `{"application_credential": {"name": "cli"}}`, &made)
	return made.Credential
}

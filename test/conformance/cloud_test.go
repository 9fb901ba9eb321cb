// SPDX-License-Identifier: Apache-2.0

// Package conformance drives keelsond over HTTP with clients that others wrote
// for Magnum, as distributions ship them. The conductor works on simulated
// hosts with the fake driver, so that clusters really come, change and go.
package conformance

import (
	"bufio"
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
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/keelson/keelson/api/openapitest"
)

// keelsond is the path of the program under test, built once.
var keelsond string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "keelson-conformance")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		keelsond = filepath.Join(dir, "keelsond")
		build := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-buildvcs=false", "-o", keelsond, "../../cmd/keelsond")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building keelsond: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// configuration is that of the demo without root: everything is built in.
var configuration = template.Must(template.New("").Parse(`[DEFAULT]
state_path = {{.Dir}}
transport_url = memory://
[api]
host = 127.0.0.1
port = {{index .Ports 0}}
public_endpoint = {{.Checked}}
[database]
connection = {{.Database}}
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
network = public:10.77.0.0/24:10.77.0.1:10.77.0.10-10.77.0.250
default_network = public
[images]
image = node:debian:node
[drivers]
enabled = fake,kubernetes
[conductor]
poll_interval = 1
`))

// cloud is one running keelsond.
type cloud struct {
	*testing.T
	api, keystone string
}

// newCloud starts a keelsond on that database; it ends with the test.
func newCloud(t *testing.T, database string) *cloud {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "host"), 0o700); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	checked := httptest.NewUnstartedServer(nil)
	var text bytes.Buffer
	err := configuration.Execute(&text, map[string]any{"Dir": dir, "Ports": ports, "Database": database, "Checked": "http://" + checked.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "keelson.conf")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(keelsond, "all-in-one", "--config-file", file)
	log := &bytes.Buffer{}
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil {
			t.Errorf("keelsond: %v", err)
		}
		if t.Failed() {
			t.Logf("keelsond said:\n%s", log)
		}
		if strings.Contains(log.String(), "status=500") {
			t.Error("a request was answered with 500")
		}
	})
	c := &cloud{T: t, api: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), keystone: fmt.Sprintf("http://127.0.0.1:%d/v3", ports[1])}
	for deadline := time.Now().Add(2 * time.Minute); !c.answers(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("keelsond does not answer at %s", c.api)
		}
	}
	c.check(checked)
	return c
}

// check starts the server that clients are sent to by the catalogue. It hands
// their requests on to keelsond, and holds these and the answers against the
// OpenAPI document that keelsond serves.
func (c *cloud) check(server *httptest.Server) {
	c.Helper()
	answer, err := http.Get(c.api + "/openapi.yaml")
	if err != nil {
		c.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		c.Fatal(err)
	}
	document, err := openapitest.Load(text)
	if err != nil {
		c.Fatal(err)
	}
	target, err := url.Parse(c.api)
	if err != nil {
		c.Fatal(err)
	}
	var requests atomic.Int64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		requests.Add(1)
		r.SetURL(target)
		r.Out.Host = r.In.Host // links lead here, too
	}}
	server.Config.Handler = document.Handler(proxy, func(err error) { c.Error(err) })
	server.Start()
	c.Cleanup(func() {
		server.Close()
		if requests.Load() == 0 {
			c.Error("no request came through the check")
		}
		c.Logf("%d requests and their answers were held against the OpenAPI document", requests.Load())
	})
}

func (c *cloud) answers() bool {
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api+"/healthcheck", nil)
	if err != nil {
		c.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// freePorts are ports that nobody listens on now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// python is the one that distributions install clients for.
const python = "/usr/bin/python3"

// needsClients skips the test where the clients are not installed; in CI they
// have to be.
func needsClients(t *testing.T) {
	t.Helper()
	err := exec.Command(python, "-c", "import magnumclient, openstackclient").Run()
	if err == nil {
		return
	}
	const missing = "openstackclient or magnumclient is not there: apt-get install python3-openstackclient python3-magnumclient"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// shell runs `openstack` commands as one user.
type shell struct {
	*cloud
	user    string
	input   io.Writer
	answers *bufio.Reader
}

// outcome is what came of a command.
type outcome struct {
	command        string
	Code           any
	Stdout, Stderr string
}

// login starts a client for the user, whose project and password have the
// user's name.
func (c *cloud) login(user string) *shell {
	c.Helper()
	client := exec.Command(python, "osc.py")
	client.Env = append(os.Environ(), "OS_AUTH_URL="+c.keystone, "OS_IDENTITY_API_VERSION=3", "OS_REGION_NAME=RegionOne",
		"OS_USERNAME="+user, "OS_PASSWORD="+user, "OS_PROJECT_NAME="+user, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default",
		"SHELL=/bin/bash", "no_proxy=*", "COLUMNS=200", "PYTHONDONTWRITEBYTECODE=1")
	client.Stderr = os.Stderr
	input, err := client.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	output, err := client.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := client.Start(); err != nil {
		c.Fatal(err)
	}
	// Without an answer for so long the client is stuck.
	stuck := time.AfterFunc(5*time.Minute, func() { _ = client.Process.Kill() })
	c.Cleanup(func() {
		_ = input.Close()
		if err := client.Wait(); err != nil {
			c.Errorf("client of %s: %v", user, err)
		}
		stuck.Stop()
	})
	return &shell{cloud: c, user: user, input: input, answers: bufio.NewReader(output)}
}

// run runs `openstack coe …`; the command is split at blanks, and further
// arguments follow as they are.
func (s *shell) run(command string, more ...string) outcome {
	s.Helper()
	arguments := append(append([]string{"coe"}, strings.Fields(command)...), more...)
	line, err := json.Marshal(arguments)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.input.Write(append(line, '\n')); err != nil {
		s.Fatal(err)
	}
	answer, err := s.answers.ReadBytes('\n')
	if err != nil {
		s.Fatalf("the client ended in %s: %v", line, err)
	}
	o := outcome{command: s.user + "$ openstack " + strings.Join(arguments, " ")}
	if err := json.Unmarshal(answer, &o); err != nil {
		s.Fatalf("%s: %v", answer, err)
	}
	return o
}

// ok runs a command that must succeed without a word of complaint, and returns
// what it printed.
func (s *shell) ok(command string, more ...string) string {
	s.Helper()
	o := s.run(command, more...)
	if o.Code != 0.0 || o.Stderr != "" || strings.Contains(o.Stdout, "failed") {
		s.Fatalf("%s: code %v\n%s%s", o.command, o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

// fails runs a command that must fail and say so in these words. The client's
// delete commands print failures and end with 0, which is their way.
func (s *shell) fails(words, command string, more ...string) {
	s.Helper()
	o := s.run(command, more...)
	printed := o.Code == 0.0 && strings.Contains(o.Stdout, "failed")
	if o.Code == 0.0 && !printed || !strings.Contains(o.Stdout+o.Stderr, words) {
		s.Errorf("%s: code %v, want a failure that says %q\n%s%s", o.command, o.Code, words, o.Stdout, o.Stderr)
	}
	if strings.Contains(o.Stderr, "Traceback") || strings.Contains(o.Stderr, "HTTP 500") {
		s.Errorf("%s: %s", o.command, o.Stderr)
	}
}

// show runs a command that prints an object.
func (s *shell) show(command string, more ...string) map[string]any {
	s.Helper()
	return decode[map[string]any](s, s.ok(command+" -f json", more...))
}

// list runs a command that prints a list.
func (s *shell) list(command string, more ...string) []map[string]any {
	s.Helper()
	return decode[[]map[string]any](s, s.ok(command+" -f json", more...))
}

// decode reads the JSON in what a command printed; some say a sentence first.
func decode[T any](s *shell, text string) (v T) {
	s.Helper()
	if at := strings.IndexAny(text, "{["); at > 0 {
		text = text[at:]
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		s.Fatalf("%v: %s", err, text)
	}
	return v
}

// becomes waits for the status of what the command shows. "gone" waits until
// it can not be shown any more.
func (s *shell) becomes(status, command string) {
	s.Helper()
	var o outcome
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		o = s.run(command + " -f json")
		if status == "gone" && o.Code == 1.0 && strings.Contains(o.Stderr, "could not be found") {
			return
		}
		if o.Code == 0.0 && decode[map[string]any](s, o.Stdout)["status"] == status {
			return
		}
	}
	s.Fatalf("%s: never %s: %s%s", o.command, status, o.Stdout, o.Stderr)
}

// SPDX-License-Identifier: Apache-2.0

package ironictest_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// free is a machine that may be given out.
var free = nodes.Node{Name: "bm-1", ResourceClass: "baremetal", ProvisionState: "available", PowerState: "power off"}

func ask(t *testing.T, h http.Handler, method, path, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("X-OpenStack-Ironic-API-Version", "1.82")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s %s answers %q", method, path, w.Body)
		}
	}
	return w.Code, answer
}

func must(t *testing.T, h http.Handler, want int, method, path, body string) map[string]any {
	t.Helper()
	status, answer := ask(t, h, method, path, body)
	if status != want {
		t.Fatalf("%s %s: %d %v, want %d", method, path, status, answer, want)
	}
	return answer
}

// The states in between are seen when the clock is turned little by little.
func TestStatesFollowTheClock(t *testing.T) {
	timing := ironictest.Timing{
		Verify: time.Second, Clean: time.Second, CleanWait: time.Second, Deploy: time.Second, CallBack: time.Second,
		Undeploy: time.Second, Inspect: time.Second, Power: time.Second,
	}
	for _, c := range []struct {
		name, from, target, body string
		fail, lastError          string
		want                     []string // "state → target", each seen once
	}{
		{name: "manage", from: "enroll", target: "manage", want: []string{"verifying → manageable", "manageable"}},
		{name: "manage fails", from: "enroll", target: "manage", fail: "manage", want: []string{"verifying → manageable", "enroll"}},
		{name: "provide", from: "manageable", target: "provide", want: []string{"cleaning → available", "clean wait → available", "cleaning → available", "available"}},
		{name: "cleaning fails", from: "manageable", target: "provide", fail: "clean", want: []string{"cleaning → available", "clean wait → available", "cleaning → available", "clean failed → available"}},
		{name: "manual clean", from: "manageable", target: "clean", body: `,"clean_steps":[{"interface":"raid","step":"x"}]`, want: []string{"cleaning → manageable", "clean wait → manageable", "cleaning → manageable", "manageable"}},
		{name: "deploy", from: "available", target: "active", want: []string{"deploying → active", "wait call-back → active", "deploying → active", "active"}},
		{name: "deploy fails", from: "available", target: "active", fail: "deploy", want: []string{"deploying → active", "wait call-back → active", "deploying → active", "deploy failed → active"}},
		{name: "deploy never calls back", from: "available", target: "active", fail: "callback", want: []string{"deploying → active", "wait call-back → active", "deploy failed → active"}},
		{name: "deploy again", from: "deploy failed", target: "active", want: []string{"deploying → active", "wait call-back → active", "deploying → active", "active"}},
		{name: "rebuild", from: "active", target: "rebuild", want: []string{"deploying → active", "wait call-back → active", "deploying → active", "active"}},
		{name: "undeploy", from: "active", target: "deleted", want: []string{"deleting → available", "cleaning → available", "clean wait → available", "cleaning → available", "available"}},
		{name: "undeploy fails", from: "active", target: "deleted", fail: "delete", want: []string{"deleting → available", "error"}},
		{name: "undeploy while waiting", from: "wait call-back", target: "deleted", want: []string{"deleting → available", "cleaning → available", "clean wait → available", "cleaning → available", "available"}},
		{name: "inspect", from: "manageable", target: "inspect", want: []string{"inspecting → manageable", "manageable"}},
		{name: "inspect fails", from: "manageable", target: "inspect", fail: "inspect", want: []string{"inspecting → manageable", "inspect failed → manageable"}},
		{name: "adopt", from: "manageable", target: "adopt", want: []string{"active"}},
		{name: "abort", from: "clean wait", target: "abort", want: []string{"clean failed → available"}},
		{name: "rescue", from: "active", target: "rescue", body: `,"rescue_password":"x"`, want: []string{"rescuing → rescue", "rescue"}},
		{name: "unrescue", from: "rescue", target: "unrescue", want: []string{"unrescuing → active", "active"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := ironictest.NewClock(noon)
			seed := free
			seed.ProvisionState = c.from
			s := ironictest.New(ironictest.Options{Now: clock.Now, Timing: timing}).Node(seed)
			if c.fail != "" {
				s.FailNext("bm-1", c.fail, "it is broken")
			}
			must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"`+c.target+`"`+c.body+`}`)
			var seen []string
			for range 30 {
				n, _ := s.Get("bm-1")
				is := n.ProvisionState
				if n.TargetProvisionState != "" {
					is += " → " + n.TargetProvisionState
				}
				if len(seen) == 0 || seen[len(seen)-1] != is {
					seen = append(seen, is)
				}
				waits := strings.Contains(n.ProvisionState, "wait")
				if locked := n.Reservation != ""; locked != (strings.HasSuffix(n.ProvisionState, "ing") && !waits) {
					t.Errorf("%s: reservation is %q", n.ProvisionState, n.Reservation)
				}
				clock.Advance(250 * time.Millisecond)
			}
			if diff := cmp.Diff(c.want, seen); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if n, _ := s.Get("bm-1"); c.fail != "" && n.LastError != "it is broken" {
				t.Errorf("last error is %q", n.LastError)
			}
		})
	}
}

func TestWhatIsLockedIsRefused(t *testing.T) {
	clock := ironictest.NewClock(noon)
	s := ironictest.New(ironictest.Options{Now: clock.Now, Timing: ironictest.Timing{Deploy: time.Minute, Power: time.Minute}}).Node(free)
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/power", `{"target":"power on"}`)
	must(t, s, 409, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"active"}`)
	clock.Advance(time.Minute)
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"active"}`)
	for _, request := range []string{
		`PUT /v1/nodes/bm-1/states/provision {"target":"active"}`, `PUT /v1/nodes/bm-1/states/power {"target":"power off"}`,
		`PATCH /v1/nodes/bm-1 [{"op":"add","path":"/extra/x","value":1}]`, `PUT /v1/nodes/bm-1/traits/CUSTOM_X `, `DELETE /v1/nodes/bm-1 `,
	} {
		part := strings.SplitN(request, " ", 3)
		must(t, s, 409, part[0], part[1], part[2])
	}
}

func TestFailedCleaningBringsMaintenance(t *testing.T) {
	seed := free
	seed.ProvisionState = "manageable"
	s := ironictest.New(ironictest.Options{}).Node(seed).FailNext("bm-1", "clean", "disk is broken")
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"provide"}`)
	n, _ := s.Get("bm-1")
	if n.ProvisionState != "clean failed" || !n.Maintenance || n.Fault != "clean failure" || n.LastError != "disk is broken" {
		t.Errorf("node: %+v", n)
	}
	must(t, s, 202, "DELETE", "/v1/nodes/bm-1/maintenance", "")
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"manage"}`)
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"provide"}`)
	if n, _ := s.Get("bm-1"); n.ProvisionState != "available" || n.Fault != "" {
		t.Errorf("node after repair: %+v", n)
	}
}

func TestPowerFails(t *testing.T) {
	s := ironictest.New(ironictest.Options{}).Node(free).FailNext("bm-1", "power", "BMC does not answer")
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/power", `{"target":"power on"}`)
	n, _ := s.Get("bm-1")
	if n.PowerState != "power off" || n.TargetPowerState != "" || n.LastError != "BMC does not answer" || n.Reservation != "" {
		t.Errorf("node: %+v", n)
	}
}

// A deploy goes on in the server that was started after the first one ended.
func TestStateSurvivesARestart(t *testing.T) {
	clock := ironictest.NewClock(noon)
	o := ironictest.Options{Now: clock.Now, Timing: ironictest.Timing{Deploy: time.Minute}, StateFile: filepath.Join(t.TempDir(), "ironic.json")}
	first := ironictest.New(o).Node(free)
	node := must(t, first, 200, "GET", "/v1/nodes/bm-1", "")
	must(t, first, 201, "POST", "/v1/ports", `{"node_uuid":"`+node["uuid"].(string)+`","address":"52:54:00:00:00:01"}`)
	must(t, first, 201, "POST", "/v1/allocations", `{"name":"host-1","resource_class":"baremetal"}`)
	must(t, first, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"active","configdrive":{"user_data":"a secret"}}`)

	kept, err := os.ReadFile(o.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.StateFile); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(string(kept), "a secret") {
		t.Errorf("state file: %v, %v; secret in it: %v", info.Mode(), err, strings.Contains(string(kept), "a secret"))
	}

	second := ironictest.New(o)
	paths := []string{"/v1/nodes/bm-1", "/v1/allocations/host-1", "/v1/ports"}
	for _, path := range paths {
		if diff := cmp.Diff(must(t, first, 200, "GET", path, ""), must(t, second, 200, "GET", path, "")); diff != "" {
			t.Errorf("GET %s (-before +after):\n%s", path, diff)
		}
	}
	if n, _ := second.Get("bm-1"); n.ProvisionState != "deploying" {
		t.Errorf("after the restart the node is %s", n.ProvisionState)
	}
	clock.Advance(time.Minute)
	if n, _ := second.Get("bm-1"); n.ProvisionState != "active" {
		t.Errorf("a minute later the node is %s", n.ProvisionState)
	}
	must(t, second, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"deleted"}`)
	must(t, ironictest.New(o), 404, "GET", "/v1/allocations/host-1", "")
	if left, _ := filepath.Glob(o.StateFile + "?*"); left != nil {
		t.Errorf("left beside the state file: %v", left)
	}
}

func TestDamagedStateFileIsReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ironic.json")
	if err := os.WriteFile(file, []byte(`{"nodes": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ironictest.Open(ironictest.Options{StateFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error is %v", err)
	}
}

// What cannot be kept is not promised.
func TestUnsavedChangeIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := ironictest.New(ironictest.Options{StateFile: filepath.Join(dir, "ironic.json")}).Node(free)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	must(t, s, 500, "PUT", "/v1/nodes/bm-1/states/power", `{"target":"power on"}`)
}

func TestListsHavePagesAndFilters(t *testing.T) {
	s := ironictest.New(ironictest.Options{MaxLimit: 2})
	for _, name := range []string{"c", "a", "b"} {
		n := free
		n.Name, n.Maintenance = name, name == "b"
		s.Node(n)
	}
	names := func(query string) []string {
		var all []string
		for path := "/v1/nodes" + query; path != ""; {
			answer := must(t, s, 200, "GET", path, "")
			for _, one := range answer["nodes"].([]any) {
				all = append(all, one.(map[string]any)["name"].(string))
			}
			next, _ := answer["next"].(string)
			path = strings.TrimPrefix(next, "http://example.com")
		}
		return all
	}
	for query, want := range map[string][]string{
		"": {"c", "a", "b"}, "?limit=1": {"c", "a", "b"}, "?sort_key=name": {"a", "b", "c"}, "?sort_key=name&sort_dir=desc": {"c", "b", "a"},
		"?maintenance=true": {"b"}, "?associated=yes": nil, "?resource_class=baremetal&maintenance=0": {"c", "a"}, "?resource_class=other": nil,
		"?fields=name,uuid": {"c", "a", "b"}, "?detail=True": {"c", "a", "b"},
	} {
		if got := names(query); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", query, got, want)
		}
	}
}

func TestOldVersionsSeeLess(t *testing.T) {
	s := ironictest.New(ironictest.Options{}).Node(free)
	n, _ := s.Get("bm-1")
	for version, want := range map[string]struct {
		path   string
		status int
		has    string
		hasNot string
	}{
		"1.1":  {"/v1/nodes/" + n.UUID, 200, "power_state", "name"},
		"1.4":  {"/v1/nodes/bm-1", 404, "error_message", "name"}, // names came with 1.5
		"1.36": {"/v1/nodes/bm-1", 200, "resource_class", "traits"},
		"1.51": {"/v1/allocations", 404, "error_message", "allocations"},
		"1.82": {"/v1/nodes/bm-1", 200, "shard", "error_message"},
	} {
		r := httptest.NewRequest("GET", want.path, nil)
		r.Header.Set("X-OpenStack-Ironic-API-Version", version)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		_, has := answer[want.has]
		_, hasNot := answer[want.hasNot]
		if w.Code != want.status || !has || hasNot {
			t.Errorf("%s with %s: %d %v", want.path, version, w.Code, answer)
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	n := free
	n.DriverInfo = map[string]any{"ipmi_password": "secret", "ipmi_address": "192.0.2.1"}
	n.InstanceInfo = map[string]any{"image_url": "secret"}
	s := ironictest.New(ironictest.Options{}).Node(n)
	must(t, s, 202, "PUT", "/v1/nodes/bm-1/states/provision", `{"target":"active","configdrive":{"user_data":"secret"}}`)
	answer := must(t, s, 200, "GET", "/v1/nodes/bm-1", "")
	if text, _ := json.Marshal(answer); strings.Contains(string(text), `"secret"`) || !strings.Contains(string(text), "192.0.2.1") {
		t.Errorf("answer is %s", text)
	}
	if got := string(s.ConfigDrive("bm-1")); got != `{"user_data":"secret"}` {
		t.Errorf("config drive is %s", got)
	}
	// A patch must not put the mask in the secret's place.
	must(t, s, 200, "PATCH", "/v1/nodes/bm-1", `[{"op":"add","path":"/extra/x","value":"y"}]`)
	if n, _ := s.Get("bm-1"); n.DriverInfo["ipmi_password"] != "secret" {
		t.Errorf("driver_info after a patch: %v", n.DriverInfo)
	}
}

// OpenStack's own command line speaks to the typed Ironic.
func TestOpenStackClient(t *testing.T) {
	t.Parallel()
	machine := free
	machine.Traits = []string{"CUSTOM_GPU"}
	client, err := exec.LookPath("baremetal")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("baremetal is not installed: apt-get install python3-ironicclient")
		}
		t.Skip("baremetal is not installed: apt-get install python3-ironicclient")
	}
	server := httptest.NewServer(ironictest.New(ironictest.Options{}).Node(machine))
	defer server.Close()
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, client, append([]string{"--os-auth-type", "none", "--os-endpoint", server.URL}, args...)...)
		out, err := command.Output()
		if err != nil {
			if exit, ok := err.(*exec.ExitError); ok {
				t.Fatalf("baremetal %v: %v\n%s", args, err, exit.Stderr)
			}
			t.Fatalf("baremetal %v: %v", args, err)
		}
		return string(out)
	}
	run("allocation", "create", "--name", "host-1", "--resource-class", "baremetal", "--trait", "CUSTOM_GPU")
	run("node", "deploy", "bm-1", "--config-drive", `{"user_data":"x"}`)
	var listed []map[string]any
	if err := json.Unmarshal([]byte(run("node", "list", "-f", "json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed) != 1 || listed[0]["Name"] != "bm-1" || listed[0]["Provisioning State"] != "active" || listed[0]["Power State"] != "power off" {
		t.Errorf("node list: %v", listed)
	}
	var shown map[string]any
	if err := json.Unmarshal([]byte(run("node", "show", "bm-1", "-f", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"name": "bm-1", "resource_class": "baremetal", "traits": []any{"CUSTOM_GPU"}, "provision_state": "active", "maintenance": false}
	for key, value := range want {
		if diff := cmp.Diff(value, shown[key]); diff != "" {
			t.Errorf("node show %s (-want +got):\n%s", key, diff)
		}
	}
	run("node", "undeploy", "bm-1")
}

// Keelson's client on the embedded default, over a restart in the middle.
func TestClientGoesOnAfterARestart(t *testing.T) {
	clock := ironictest.NewClock(noon)
	o := ironictest.Options{Now: clock.Now, Timing: ironictest.Timing{Deploy: time.Minute}, StateFile: filepath.Join(t.TempDir(), "ironic.json")}
	var current http.Handler = ironictest.New(o).Node(free)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.ServeHTTP(w, r) }))
	defer server.Close()
	client, err := ironic.New(ironic.Options{Endpoint: server.URL, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var a ironic.Allocation
	for steps := 0; ; steps++ {
		a, r, err := client.Allocate(t.Context(), ironic.AllocationRequest{Key: "host-1", ResourceClass: "baremetal"})
		if err == nil && r.Done {
			r, err = client.Deploy(t.Context(), ironic.DeployRequest{NodeID: a.NodeID, AllocationID: a.ID, Image: ironic.Image{Href: "http://img"}})
		}
		if err != nil || steps > 100 {
			t.Fatalf("after %d steps: %+v, %v", steps, a, err)
		}
		if r.Done {
			break
		}
		current = ironictest.New(o) // every time
		clock.Advance(r.After)
	}
	if a, _, _ = client.Allocate(t.Context(), ironic.AllocationRequest{Key: "host-1", ResourceClass: "baremetal"}); a.NodeID == "" {
		t.Error("the allocation is gone")
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("POST", "/v1/nodes", `{"driver":"fake-hardware","name":"x"}`)
	f.Add("PATCH", "/v1/nodes/bm-1", `[{"op":"remove","path":"/extra"},{"op":"add","path":"/extra/x/y","value":1}]`)
	f.Add("PATCH", "/v1/nodes/bm-1", `[{"op":"replace","path":"/instance_info","value":null},{"op":"remove","path":"/driver"}]`)
	f.Add("PUT", "/v1/nodes/bm-1/states/provision", `{"target":"active","configdrive":"x"}`)
	f.Add("PUT", "/v1/nodes/bm-1/states/provision", `{"target":null,"clean_steps":{}}`)
	f.Add("POST", "/v1/allocations", `{"resource_class":"baremetal","candidate_nodes":["bm-1"],"traits":null}`)
	f.Add("GET", "/v1/nodes?limit=1&marker=11111111-1111-4111-8111-111111111111&sort_key=name", "")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://example.com"+path, strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		r.Header.Set("X-OpenStack-Ironic-API-Version", "latest")
		s := ironictest.New(ironictest.Options{}).Node(free)
		s.ServeHTTP(httptest.NewRecorder(), r)
		// Whatever was asked, the server still answers.
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/nodes/detail", nil))
		if w.Code != http.StatusOK {
			t.Errorf("list of nodes: %d %s", w.Code, w.Body)
		}
	})
}

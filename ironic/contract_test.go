// SPDX-License-Identifier: Apache-2.0

package ironic_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

// lab is an Ironic with a corner of its own: a resource class that nobody else
// uses.
type lab struct {
	url   string
	class string
	*ironic.Client
}

// onEveryIronic runs the same test against the typed Ironic and the real one.
func onEveryIronic(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Parallel()
	t.Run("typed", func(t *testing.T) {
		server := httptest.NewServer(ironictest.New(ironictest.Options{}))
		t.Cleanup(server.Close)
		test(t, newLab(t, server.URL))
	})
	t.Run("real", func(t *testing.T) {
		test(t, newLab(t, testenv.Require(t, testenv.Ironic)))
	})
}

func newLab(t *testing.T, url string) *lab {
	t.Helper()
	client, err := ironic.New(ironic.Options{Endpoint: url, MinDelay: 20 * time.Millisecond, MaxDelay: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{url: strings.TrimSuffix(url, "/"), class: "keelson-test-" + uuid.NewString()[:8], Client: client}
	t.Cleanup(l.clear)
	t.Cleanup(client.Close)
	return l
}

// clear removes what a test left in its class.
func (l *lab) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, kind := range []string{"nodes", "allocations"} {
		_, answer := l.ask(ctx, "GET", "/v1/"+kind+"?fields=uuid&resource_class="+l.class, "")
		found, _ := answer[kind].([]any)
		for _, one := range found {
			id := one.(map[string]any)["uuid"].(string)
			if kind == "nodes" {
				l.ask(ctx, "PUT", "/v1/nodes/"+id+"/maintenance", "{}")
			}
			l.ask(ctx, "DELETE", "/v1/"+kind+"/"+id, "")
		}
	}
}

// ask sends one raw request; the answer is nil when it is not a JSON object.
func (l *lab) ask(ctx context.Context, method, path, body string) (int, map[string]any) {
	request, err := http.NewRequestWithContext(ctx, method, l.url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Close = true // uWSGI cuts connections that it did not promise to keep
	request.Header.Set("X-OpenStack-Ironic-API-Version", "1.78")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, map[string]any{"error": err.Error()}
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	var answer map[string]any
	_ = json.Unmarshal(text, &answer)
	return response.StatusCode, answer
}

// sentence is the faultstring or description packed into an error answer.
func sentence(answer map[string]any) string {
	packed, _ := answer["error_message"].(string)
	var inner map[string]any
	_ = json.Unmarshal([]byte(packed), &inner)
	for _, key := range []string{"faultstring", "description"} {
		if s, ok := inner[key].(string); ok {
			return s
		}
	}
	return packed
}

// finish repeats a step, each time after the delay that it asks for, until it
// is done.
func finish(t *testing.T, what string, step func(ctx context.Context) (ironic.Result, error)) ironic.Result {
	t.Helper()
	result, err := repeat(t, what, step)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return result
}

func repeat(t *testing.T, what string, step func(ctx context.Context) (ironic.Result, error)) (ironic.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		result, err := step(ctx)
		switch {
		case err != nil && !fault.IsPermanent(err) && ctx.Err() == nil:
			result.After = 50 * time.Millisecond
		case err != nil || result.Done:
			return result, err
		case result.After <= 0:
			t.Fatalf("%s: neither done nor to be called again: %+v", what, result)
		}
		select {
		case <-time.After(result.After):
		case <-ctx.Done():
			t.Fatalf("%s is not done after 30 s; last: %+v, %v", what, result, err)
		}
	}
}

// host enrolls a machine and returns its uuid.
func (l *lab) host(t *testing.T, req ironic.EnrollRequest) string {
	t.Helper()
	req.ResourceClass = l.class
	if req.Name == "" {
		req.Name = "bm-" + uuid.NewString()[:8]
	}
	var id string
	finish(t, "enroll "+req.Name, func(ctx context.Context) (r ironic.Result, err error) {
		id, r, err = l.Enroll(ctx, req)
		return r, err
	})
	return id
}

func (l *lab) allocate(t *testing.T, req ironic.AllocationRequest) (ironic.Allocation, error) {
	t.Helper()
	req.ResourceClass = l.class
	var a ironic.Allocation
	_, err := repeat(t, "allocate "+req.Key, func(ctx context.Context) (r ironic.Result, err error) {
		a, r, err = l.Allocate(ctx, req)
		return r, err
	})
	return a, err
}

func (l *lab) mustAllocate(t *testing.T, req ironic.AllocationRequest) ironic.Allocation {
	t.Helper()
	a, err := l.allocate(t, req)
	if err != nil {
		t.Fatalf("allocate %s: %v", req.Key, err)
	}
	return a
}

func (l *lab) leftAllocations(t *testing.T) int {
	t.Helper()
	_, answer := l.ask(t.Context(), "GET", "/v1/allocations?resource_class="+l.class, "")
	found, ok := answer["allocations"].([]any)
	if !ok {
		t.Fatalf("list of allocations: %v", answer)
	}
	return len(found)
}

var image = ironic.Image{Href: "http://127.0.0.1:9/host.img", Checksum: "sha256:" + strings.Repeat("0", 64)}

// The whole life of a host, every step taken more often than needed.
func TestHostLife(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		enroll := ironic.EnrollRequest{
			Name: "bm-" + uuid.NewString()[:8], Traits: []string{"CUSTOM_KEELSON"}, CPUs: 8, MemoryMiB: 16384, DiskGiB: 200,
			Extra: map[string]any{ironic.ExtraAddress: "192.0.2.7", ironic.ExtraLibvirtURI: "lxc+tls://192.0.2.7/system"},
		}
		id := l.host(t, enroll)
		if again := l.host(t, enroll); again != id {
			t.Errorf("enrolled twice: %s and %s", id, again)
		}
		want := &ironic.Node{
			ID: id, Name: enroll.Name, ResourceClass: l.class, Traits: enroll.Traits, CPUs: 8, MemoryMiB: 16384, DiskGiB: 200,
			Address: "192.0.2.7", LibvirtURI: "lxc+tls://192.0.2.7/system", State: "available", Power: "power off",
		}
		got, err := l.Node(t.Context(), enroll.Name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("available node (-want +got): %v\n%s", err, diff)
		}

		reserve := ironic.AllocationRequest{Key: uuid.NewString(), Traits: []string{"CUSTOM_KEELSON"}}
		a := l.mustAllocate(t, reserve)
		if a.NodeID != id {
			t.Fatalf("allocated %q, want the only node %s", a.NodeID, id)
		}
		if again := l.mustAllocate(t, reserve); again != a {
			t.Errorf("allocated twice: %+v and %+v", a, again)
		}

		deploy := ironic.DeployRequest{NodeID: a.NodeID, AllocationID: a.ID, Image: image, ConfigDrive: ironic.ConfigDrive{
			MetaData: map[string]any{"hostname": "host-1"}, UserData: "#cloud-config\nhostname: host-1\n",
		}}
		step := func(ctx context.Context) (ironic.Result, error) { return l.Deploy(ctx, deploy) }
		finish(t, "deploy", step)
		finish(t, "deploy once more", step)
		want.State, want.Power, want.InstanceID = "active", "power on", a.ID
		got, err = l.Node(t.Context(), id)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("deployed node (-want +got): %v\n%s", err, diff)
		}
		if again := l.mustAllocate(t, reserve); again != a {
			t.Errorf("allocation of a deployed node: %+v, want %+v", again, a)
		}
		_, raw := l.ask(t.Context(), "GET", "/v1/nodes/"+id+"?fields=instance_info", "")
		info, _ := raw["instance_info"].(map[string]any)
		for key, value := range map[string]string{
			"image_source": image.Href, "image_os_hash_algo": "sha256", "image_os_hash_value": strings.Repeat("0", 64), "configdrive": "******",
		} {
			if info[key] != value {
				t.Errorf("instance_info %s is %v, want %s", key, info[key], value)
			}
		}

		release := func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, id, a.ID) }
		finish(t, "release", release)
		finish(t, "release once more", release)
		want.State, want.InstanceID = "available", ""
		got, err = l.Node(t.Context(), id)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("released node (-want +got): %v\n%s", err, diff)
		}
		if n := l.leftAllocations(t); n != 0 {
			t.Errorf("%d allocations left behind", n)
		}
		if _, err := l.Deploy(t.Context(), deploy); !fault.IsPermanent(err) {
			t.Errorf("deploy of a released node: %v, want a permanent error", err)
		}
	})
}

func TestReleaseByKeyOfWhatWasOnlyReserved(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		id := l.host(t, ironic.EnrollRequest{})
		for _, key := range []string{uuid.NewString(), "host-" + l.class} {
			l.mustAllocate(t, ironic.AllocationRequest{Key: key})
			for range 2 {
				finish(t, "release", func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, "", key) })
			}
		}
		n, err := l.Node(t.Context(), id)
		if err != nil || n.InstanceID != "" || n.State != "available" {
			t.Errorf("node after release: %+v, %v", n, err)
		}
		if left := l.leftAllocations(t); left != 0 {
			t.Errorf("%d allocations left behind", left)
		}
	})
}

// A release that is repeated late must not take the machine from its next owner.
func TestReleaseLeavesTheNextOwnerAlone(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		id := l.host(t, ironic.EnrollRequest{})
		first := l.mustAllocate(t, ironic.AllocationRequest{Key: "first-" + l.class})
		finish(t, "release", func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, id, first.ID) })
		second := l.mustAllocate(t, ironic.AllocationRequest{Key: "second-" + l.class})
		deploy := ironic.DeployRequest{NodeID: id, AllocationID: second.ID, Image: image}
		finish(t, "deploy", func(ctx context.Context) (ironic.Result, error) { return l.Deploy(ctx, deploy) })

		finish(t, "late release", func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, id, first.ID) })
		n, err := l.Node(t.Context(), id)
		if err != nil || n.State != "active" || n.InstanceID != second.ID {
			t.Errorf("the next owner's node is %+v, %v", n, err)
		}
		deploy.AllocationID = first.ID
		if _, err := l.Deploy(t.Context(), deploy); !fault.IsPermanent(err) {
			t.Errorf("deploy under the old allocation: %v, want a permanent error", err)
		}
	})
}

func TestNoFreeHost(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		refused := func(t *testing.T, req ironic.AllocationRequest, reason string) {
			t.Helper()
			for range 2 {
				_, err := l.allocate(t, req)
				if !fault.IsPermanent(err) || fault.Reason(err, "") != strings.ReplaceAll(reason, "CLASS", l.class) {
					t.Fatalf("error %v (permanent %v), want %q", err, fault.IsPermanent(err), reason)
				}
			}
			if n := l.leftAllocations(t); n != 0 {
				t.Errorf("%d failed allocations left behind", n)
			}
		}
		name := uuid.NewString()
		refused(t, ironic.AllocationRequest{Key: name}, `there is no bare-metal host of resource class "CLASS"; add hosts or choose another class`)
		id := l.host(t, ironic.EnrollRequest{Traits: []string{"CUSTOM_SSD"}})
		refused(t, ironic.AllocationRequest{Key: name, Traits: []string{"CUSTOM_SSD", "CUSTOM_GPU"}},
			`no bare-metal host of resource class "CLASS" with traits CUSTOM_SSD, CUSTOM_GPU is free; add hosts or give some back`)
		refused(t, ironic.AllocationRequest{Key: name, Avoid: []string{id}},
			`no bare-metal host of resource class "CLASS" is free; add hosts or give some back`)
		l.ask(t.Context(), "PUT", "/v1/nodes/"+id+"/maintenance", `{"reason":"new disk"}`)
		refused(t, ironic.AllocationRequest{Key: name}, `no bare-metal host of resource class "CLASS" is free; add hosts or give some back`)
	})
}

func TestUnknownPowerStateIsNeverAllocated(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		name := "bm-" + uuid.NewString()[:8]
		if status, answer := l.ask(t.Context(), "POST", "/v1/nodes", `{"driver":"fake-hardware","name":"`+name+`","resource_class":"`+l.class+`"}`); status != 201 {
			t.Fatalf("create: %d %v", status, answer)
		}
		for _, target := range []string{"manage", "provide"} {
			l.settle(t, name)
			if status, answer := l.ask(t.Context(), "PUT", "/v1/nodes/"+name+"/states/provision", `{"target":"`+target+`"}`); status != 202 {
				t.Fatalf("%s: %d %v", target, status, answer)
			}
		}
		l.settle(t, name)
		if _, err := l.allocate(t, ironic.AllocationRequest{Key: uuid.NewString()}); !fault.IsPermanent(err) {
			t.Errorf("allocation of a node with unknown power state: %v, want a permanent error", err)
		}
	})
}

// settle waits until Ironic has finished with a node.
func (l *lab) settle(t *testing.T, name string) {
	t.Helper()
	finish(t, "settle "+name, func(ctx context.Context) (ironic.Result, error) {
		status, n := l.ask(ctx, "GET", "/v1/nodes/"+name+"?fields=target_provision_state,target_power_state,reservation", "")
		ready := status == 200 && n["target_provision_state"] == nil && n["target_power_state"] == nil && n["reservation"] == nil
		return ironic.Result{Done: ready, After: 10 * time.Millisecond}, nil
	})
}

func TestAvoidedHost(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		bad, good := "bad-"+l.class, ""
		l.host(t, ironic.EnrollRequest{Name: bad})
		good = l.host(t, ironic.EnrollRequest{})
		req := ironic.AllocationRequest{Key: uuid.NewString(), Avoid: []string{bad}}
		if a := l.mustAllocate(t, req); a.NodeID != good {
			t.Errorf("allocated %s, want %s", a.NodeID, good)
		}
		if _, err := l.allocate(t, ironic.AllocationRequest{Key: uuid.NewString(), Avoid: []string{bad}}); !fault.IsPermanent(err) {
			t.Errorf("allocation with all others taken: %v, want a permanent error", err)
		}
	})
}

func TestRacingAllocations(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		id := l.host(t, ironic.EnrollRequest{})
		key := uuid.NewString()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				a, err := l.allocate(t, ironic.AllocationRequest{Key: key})
				if err != nil || a.NodeID != id {
					t.Errorf("allocation under one key: %+v, %v", a, err)
				}
			})
		}
		all.Wait()
		if n := l.leftAllocations(t); n != 1 {
			t.Errorf("%d allocations under one key", n)
		}
	})
}

func TestMaintenanceStopsADeploy(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		id := l.host(t, ironic.EnrollRequest{})
		a := l.mustAllocate(t, ironic.AllocationRequest{Key: uuid.NewString()})
		l.ask(t.Context(), "PUT", "/v1/nodes/"+id+"/maintenance", `{"reason":"new disk"}`)
		_, err := l.Deploy(t.Context(), ironic.DeployRequest{NodeID: id, AllocationID: a.ID, Image: image})
		if !fault.IsPermanent(err) || !strings.Contains(fault.Reason(err, ""), "is in maintenance") || !strings.Contains(err.Error(), "new disk") {
			t.Errorf("deploy in maintenance: %v", err)
		}
		finish(t, "release", func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, id, a.ID) })
		if n := l.leftAllocations(t); n != 0 {
			t.Errorf("%d allocations left behind", n)
		}
	})
}

func TestNodeThatIsGone(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		gone := uuid.NewString()
		if _, err := l.Node(t.Context(), gone); !fault.IsPermanent(err) {
			t.Errorf("look: %v, want a permanent error", err)
		}
		if _, err := l.Deploy(t.Context(), ironic.DeployRequest{NodeID: gone, AllocationID: uuid.NewString(), Image: image}); !fault.IsPermanent(err) {
			t.Errorf("deploy: %v, want a permanent error", err)
		}
		if r, err := l.Release(t.Context(), gone, uuid.NewString()); err != nil || !r.Done {
			t.Errorf("release: %+v, %v, want done", r, err)
		}
	})
}

// The REST API in the raw, as one story; CLASS, NODE and NAME are replaced by
// this run's own.
func TestRESTAnswers(t *testing.T) {
	type step struct {
		request string // "METHOD path [body]"
		status  int
		says    string // the error's sentence
	}
	story := []step{
		{`GET /v1/nodes/NAME`, 404, `Node NAME could not be found.`},
		{`POST /v1/nodes {"name":"NAME"}`, 400, `Schema error for node: 'driver' is a required property`},
		{`POST /v1/nodes {"driver":"fake-hardware","bogus":1}`, 400, `Schema error for node: Additional properties are not allowed ('bogus' was unexpected)`},
		{`POST /v1/nodes {"driver":"fake-hardware","name":"no name"}`, 400, `Cannot create node with invalid name 'no name'`},
		{`POST /v1/nodes {"driver":"fake-hardware","name":"NODE"}`, 400, `Cannot create node with invalid name 'NODE'`},
		{`POST /v1/nodes {"driver":"fake-hardware","uuid":"zz"}`, 400, `Expected UUID for uuid: zz`},
		{`POST /v1/nodes {"driver":"fake-hardware","name":"NAME","uuid":"NODE","resource_class":"CLASS"}`, 201, ``},
		{`POST /v1/nodes {"driver":"fake-hardware","name":"NAME"}`, 409, `A node with name NAME already exists.`},
		{`GET /v1/nodes/NAME?fields=uuid,bogus`, 0, ``}, // 400 and 500 have been seen; only that it is refused matters
		{`GET /v1/nodes?bogus=1`, 400, `Unexpected arguments: bogus`},
		{`GET /v1/nodes?provision_state=bogus`, 400, `Provision state "bogus" is not valid`},
		{`GET /v1/nodes?instance_uuid=zzz`, 400, `Expected UUID for instance_uuid: zzz`},
		{`GET /v1/nodes?limit=0`, 400, `Limit must be positive`},
		{`GET /v1/nodes?detail=true&fields=uuid`, 400, `Can not specify ?detail=True and fields in the same request.`},
		{`PATCH /v1/nodes/NAME [{"op":"add","path":"/extra/x","value":"y"}]`, 200, ``},
		{`PATCH /v1/nodes/NAME [{"op":"add","path":"/extra/x","value":"y"}]`, 200, ``},
		{`PATCH /v1/nodes/NAME [{"op":"remove","path":"/extra/nope"}]`, 400, `*`},
		{`PUT /v1/nodes/NAME/states/provision {}`, 400, `Missing mandatory parameter: target`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"active"}`, 400, `The requested action "active" can not be performed on node "NODE" while it is in state "enroll".`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"bogus"}`, 400, `The requested action "bogus" can not be performed on node "NODE" while it is in state "enroll".`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"manage","bogus":1}`, 400, `Unexpected arguments: bogus`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"manage"}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/provision {"target":"clean"}`, 400, `"clean_steps" is required when setting target provision state to clean`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"provide"}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/power {"target":"power off"}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/power {"target":"bogus"}`, 400, `The requested action "bogus" can not be performed on node "NAME" while it is in state "power off".`},
		{`PUT /v1/nodes/NAME/traits/CUSTOM_GPU`, 204, ``},
		{`PUT /v1/nodes/NAME/traits/CUSTOM_GPU`, 204, ``},
		{`PUT /v1/nodes/NAME/traits/bad`, 400, `Schema error for trait: 'bad' is not valid under any of the given schemas. Possible root cause: 'bad' does not match '^CUSTOM_[A-Z0-9_]+$'`},
		{`DELETE /v1/nodes/NAME/traits/CUSTOM_NOPE`, 404, `Node NODE doesn't have a trait 'CUSTOM_NOPE'`},
		{`POST /v1/allocations {"name":"NAME"}`, 400, `The resource_class field is mandatory when not backfilling`},
		{`POST /v1/allocations {"name":"a b","resource_class":"CLASS"}`, 400, `Cannot create allocation with invalid name 'a b'`},
		{`POST /v1/allocations {"name":"NAME","resource_class":"CLASS","candidate_nodes":["nope-NAME"]}`, 400, `Nodes cannot be found: nope-NAME`},
		{`POST /v1/allocations {"name":"NAME","resource_class":"CLASS","traits":["bad"]}`, 400, `*`},
		{`POST /v1/allocations {"name":"NAME","resource_class":"CLASS","bogus":1}`, 400, `Schema error for allocation: Additional properties are not allowed ('bogus' was unexpected)`},
		{`POST /v1/allocations {"name":"NAME","resource_class":"CLASS","uuid":"ALLOC","traits":["CUSTOM_GPU"]}`, 201, ``},
		{`POST /v1/allocations {"name":"NAME","resource_class":"CLASS"}`, 409, `An allocation with name NAME already exists.`},
		{`PATCH /v1/allocations/NAME [{"op":"replace","path":"/name","value":"NODE"}]`, 200, ``},
		{`GET /v1/allocations/NODE`, 404, `Allocation NODE could not be found.`}, // though it is its name now
		{`PATCH /v1/allocations/ALLOC [{"op":"replace","path":"/name","value":"NAME"}]`, 200, ``},
		{`DELETE /v1/nodes/NAME`, 409, `Node NODE is associated with instance ALLOC.`},
		{`PUT /v1/nodes/NAME/states/provision {"target":"active","configdrive":{"user_data":"x"}}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/provision {"target":"active"}`, 400, `The requested action "active" can not be performed on node "NODE" while it is in state "active".`},
		{`DELETE /v1/allocations/NAME`, 409, `Cannot remove allocation ALLOC for node NODE, because the node is active (and maintenance mode is off)`},
		{`PUT /v1/nodes/NAME/maintenance {"reason":"disk"}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/provision {"target":"rebuild"}`, 400, `The provisioning operation can't be performed on node NODE because it's in maintenance mode.`},
		{`DELETE /v1/nodes/NAME/maintenance`, 202, ``},
		{`PUT /v1/nodes/NAME/states/provision {"target":"rebuild"}`, 202, ``},
		{`PUT /v1/nodes/NAME/states/provision {"target":"deleted"}`, 202, ``},
		{`GET /v1/allocations/NAME`, 404, `Allocation NAME could not be found.`},
		{`GET /v1/nodes/NAME/allocation`, 404, `Allocation for node NAME was not found`},
		{`POST /v1/ports {"node_uuid":"NODE","address":"x"}`, 400, `Expected valid MAC address for address: x`},
		{`DELETE /v1/nodes/NAME`, 204, ``},
		{`DELETE /v1/nodes/NAME`, 404, `Node NAME could not be found.`},
	}
	onEveryIronic(t, func(t *testing.T, l *lab) {
		name := "bm-" + uuid.NewString()[:8]
		own := strings.NewReplacer("CLASS", l.class, "NAME", name, "NODE", uuid.NewString(), "ALLOC", uuid.NewString())
		for _, s := range story {
			method, rest, _ := strings.Cut(own.Replace(s.request), " ")
			path, body, _ := strings.Cut(rest, " ")
			status, answer := l.ask(t.Context(), method, path, body)
			if s.status == 0 && status >= 400 {
				continue
			}
			if status != s.status {
				t.Fatalf("%s %s: %d %v, want %d", method, rest, status, answer, s.status)
			}
			if want := own.Replace(s.says); want != "*" && status >= 400 && sentence(answer) != want {
				t.Errorf("%s %s says\n\t%s\nwant\n\t%s", method, rest, sentence(answer), want)
			}
			if method != "GET" && method != "DELETE" && status < 300 {
				l.settle(t, name)
				if strings.HasPrefix(path, "/v1/allocations") {
					finish(t, "allocation", func(ctx context.Context) (ironic.Result, error) {
						_, a := l.ask(ctx, "GET", "/v1/allocations/"+own.Replace("ALLOC"), "")
						return ironic.Result{Done: a["state"] == "active", After: 10 * time.Millisecond}, nil
					})
				}
			}
		}
	})
}

func TestVersionsAreNegotiated(t *testing.T) {
	onEveryIronic(t, func(t *testing.T, l *lab) {
		features, err := l.Features(t.Context())
		if err != nil || features.Microversion() != "1.82" || !features.HasRetirement() {
			t.Errorf("features: %+v, %v", features, err)
		}
		for version, want := range map[string]int{"1.82": 200, "latest": 200, "": 200, "1.99": 406, "2.1": 406, "x": 406} {
			request, _ := http.NewRequestWithContext(t.Context(), "GET", l.url+"/v1/nodes", nil)
			if version != "" {
				request.Header.Set("X-OpenStack-Ironic-API-Version", version)
			}
			request.Close = true
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("version %q: %d %s, want %d", version, response.StatusCode, body, want)
			}
			if want == 406 && !bytes.Contains(body, []byte(`\"title\": \"Not Acceptable\"`)) && !bytes.Contains(body, []byte(`\"title\":\"Not Acceptable\"`)) {
				t.Errorf("version %q answers %s", version, body)
			}
		}
	})
}

// The typed Ironic's resources have the real one's keys and kinds of values.
func TestTypedLooksLikeReal(t *testing.T) {
	realURL := testenv.Require(t, testenv.Ironic)
	server := httptest.NewServer(ironictest.New(ironictest.Options{}))
	defer server.Close()
	shapes := map[string]map[string]map[string]string{} // which → path → key → kind
	for which, url := range map[string]string{"typed": server.URL, "real": realURL} {
		l := newLab(t, url)
		name := "bm-" + uuid.NewString()[:8]
		id := l.host(t, ironic.EnrollRequest{Name: name, Traits: []string{"CUSTOM_X"}, Extra: map[string]any{"a": "b"}})
		l.ask(t.Context(), "POST", "/v1/ports", `{"node_uuid":"`+id+`","address":"52:54:00:`+id[0:2]+":"+id[2:4]+":"+id[4:6]+`"}`)
		a := l.mustAllocate(t, ironic.AllocationRequest{Key: name})
		finish(t, "deploy", func(ctx context.Context) (ironic.Result, error) {
			return l.Deploy(ctx, ironic.DeployRequest{NodeID: id, AllocationID: a.ID, Image: image})
		})
		shapes[which] = map[string]map[string]string{}
		for _, path := range []string{
			"/", "/v1/nodes/NAME", "/v1/nodes/NAME/states", "/v1/nodes?resource_class=CLASS&limit=1", "/v1/nodes/detail?resource_class=CLASS",
			"/v1/nodes?resource_class=CLASS&fields=uuid,traits", "/v1/nodes/NAME/traits", "/v1/nodes/NODE/ports", "/v1/ports/detail?node=NODE",
			"/v1/allocations/NAME", "/v1/allocations?resource_class=CLASS", "/v1/nodes/NAME/allocation", "/v1/drivers",
		} {
			status, answer := l.ask(t.Context(), "GET", strings.NewReplacer("NAME", name, "NODE", id, "CLASS", l.class).Replace(path), "")
			if status != 200 {
				t.Fatalf("%s %s: %d %v", which, path, status, answer)
			}
			shape := map[string]string{}
			describe(shape, "", answer)
			for key := range shape {
				if strings.HasSuffix(key, "/reservation") {
					shape[key] = "string or null" // a lock that may be held at this moment
				}
			}
			shapes[which][path] = shape
		}
	}
	for path, want := range shapes["real"] {
		if diff := cmp.Diff(want, shapes["typed"][path]); diff != "" {
			t.Errorf("GET %s (-real +typed):\n%s", path, diff)
		}
	}
}

// describe notes the keys of a value and what kind of JSON they hold, to some
// depth; inner information of Ironic's is not looked into.
func describe(into map[string]string, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		into[at] = "object"
		if strings.HasSuffix(at, "internal_info") || strings.HasSuffix(at, "instance_info") {
			return
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			describe(into, at+"/"+key, v[key])
		}
	case []any:
		into[at] = "list"
		if len(v) > 0 {
			describe(into, at+"[]", v[0])
		}
	default:
		into[at] = fmt.Sprintf("%T", v)
	}
}

func TestMain(m *testing.M) {
	// Answers in other languages would not match the sentences here.
	os.Setenv("LC_ALL", "C.UTF-8")
	os.Exit(m.Run())
}

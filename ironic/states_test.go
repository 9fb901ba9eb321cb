// SPDX-License-Identifier: Apache-2.0

package ironic_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

const (
	nodeID  = "11111111-1111-4111-8111-111111111111"
	allocID = "22222222-2222-4222-8222-222222222222"
)

// began is when all seeded nodes entered their states.
var began = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// typed is a typed Ironic with one node, a clock, and a client of it.
type typed struct {
	*ironictest.Server
	*ironic.Client
	clock *ironictest.Clock
	url   string
}

func newTyped(t *testing.T, o ironictest.Options, seed ...nodes.Node) *typed {
	t.Helper()
	clock := ironictest.NewClock(began)
	o.Now, o.Record = clock.Now, true
	server := ironictest.New(o)
	for _, n := range seed {
		server.Node(n)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	l := &typed{Server: server, clock: clock, url: listener.URL}
	l.Client = l.client(t, ironic.Options{})
	return l
}

func (l *typed) client(t *testing.T, o ironic.Options) *ironic.Client {
	t.Helper()
	if o.Endpoint == "" {
		o.Endpoint = l.url
	}
	o.Now, o.Logger = l.clock.Now, slog.New(slog.DiscardHandler)
	o.Jitter = func() float64 { return 0 }
	c, err := ironic.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Features(t.Context()); err != nil && o.Timeout == 0 {
		t.Fatal(err)
	}
	l.Forget()
	return c
}

// changes are the requests so far that were not only looks.
func (l *typed) changes() []string {
	var all []string
	for _, r := range l.Requests() {
		if r.Method != http.MethodGet {
			all = append(all, r.String()+" "+r.Body)
		}
	}
	return all
}

// verdict is what a step came to, in one word.
func verdict(r ironic.Result, err error) string {
	switch {
	case err != nil && fault.IsPermanent(err):
		return "permanent"
	case err != nil:
		return "temporary"
	case r.Done:
		return "done"
	case r.After >= 10*time.Second:
		return "slow"
	case r.After > 0:
		return "again"
	}
	return "neither done nor again"
}

// ours is a node that holds our allocation, image noted.
func ours(state string) nodes.Node {
	return nodes.Node{
		UUID: nodeID, Name: "bm-1", ResourceClass: "baremetal", ProvisionState: state, PowerState: "power on", ProvisionUpdatedAt: began,
		InstanceUUID: allocID, InstanceInfo: map[string]any{"image_source": "http://img"},
	}
}

var ourDeploy = ironic.DeployRequest{NodeID: nodeID, AllocationID: allocID, Image: ironic.Image{Href: "http://img"}}

func with(n nodes.Node, change func(*nodes.Node)) nodes.Node { change(&n); return n }

func TestDeployInEveryState(t *testing.T) {
	const put = "PUT /v1/nodes/" + nodeID + "/states/"
	for _, c := range []struct {
		name    string
		node    nodes.Node
		verdict string
		sends   string // the one request that changes something
		says    string // part of the error, or of the message
	}{
		{"available", ours("available"), "again", put + `provision {"configdrive":{},"target":"active"}`, "began"},
		{
			"available without the image", with(ours("available"), func(n *nodes.Node) { n.InstanceInfo = nil }), "again",
			"PATCH /v1/nodes/" + nodeID + ` [{"op":"add","path":"/instance_info/image_source","value":"http://img"}]`, "noted",
		},
		{"available, maintenance", with(ours("available"), func(n *nodes.Node) { n.Maintenance, n.MaintenanceReason = true, "new disk" }), "permanent", "", "new disk"},
		{"available, locked", with(ours("available"), func(n *nodes.Node) { n.Reservation = "conductor" }), "again", "", "locked"},
		{"available, power changing", with(ours("available"), func(n *nodes.Node) { n.TargetPowerState = "power off" }), "again", "", "locked"},
		{"available, another's", with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = nodeID }), "permanent", "", "not reserved"},
		{"available, nobody's", with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = "" }), "permanent", "", "not reserved"},
		{"deploying", ours("deploying"), "again", "", "deploying"},
		{"deploying, maintenance", with(ours("deploying"), func(n *nodes.Node) { n.Maintenance, n.Fault = true, "power failure" }), "slow", "", "power failure"},
		{"wait call-back", ours("wait call-back"), "again", "", "wait call-back"},
		{"active, on", ours("active"), "done", "", "deployed"},
		{"active, on, maintenance", with(ours("active"), func(n *nodes.Node) { n.Maintenance = true }), "done", "", "deployed"},
		{"active, off", with(ours("active"), func(n *nodes.Node) { n.PowerState = "power off" }), "again", put + `power {"target":"power on"}`, "power on"},
		{"active, power unknown", with(ours("active"), func(n *nodes.Node) { n.PowerState = "" }), "again", put + `power {"target":"power on"}`, "power on"},
		{"active, going on", with(ours("active"), func(n *nodes.Node) { n.PowerState, n.TargetPowerState = "power off", "power on" }), "again", "", "changing"},
		{"active, off, locked", with(ours("active"), func(n *nodes.Node) { n.PowerState, n.Reservation = "power off", "conductor" }), "again", "", "locked"},
		{"active, off, fault", with(ours("active"), func(n *nodes.Node) { n.PowerState, n.Maintenance, n.Fault = "power off", true, "power failure" }), "slow", "", "power failure"},
		{"deploy failed", with(ours("deploy failed"), func(n *nodes.Node) { n.LastError = "no bootable disk" }), "permanent", "", "no bootable disk"},
		{"error", with(ours("error"), func(n *nodes.Node) { n.LastError = "BMC does not answer" }), "permanent", "", "BMC does not answer"},
		{"deleting", ours("deleting"), "again", "", "deleting"},
		{"cleaning", ours("cleaning"), "again", "", "cleaning"},
		{"clean wait", ours("clean wait"), "again", "", "clean wait"},
		{"clean failed", ours("clean failed"), "permanent", "", "out of use"},
		{"enroll", ours("enroll"), "permanent", "", "out of use"},
		{"verifying", ours("verifying"), "again", "", "verifying"},
		{"manageable", ours("manageable"), "permanent", "", "out of use"},
		{"inspecting", ours("inspecting"), "again", "", "inspecting"},
		{"inspect wait", ours("inspect wait"), "again", "", "inspect wait"},
		{"inspect failed", ours("inspect failed"), "permanent", "", "out of use"},
		{"adopting", ours("adopting"), "again", "", "adopting"},
		{"adopt failed", ours("adopt failed"), "permanent", "", "out of use"},
		{"rescue", ours("rescue"), "permanent", "", "out of use"},
		{"rescuing", ours("rescuing"), "again", "", "rescuing"},
		{"rescue wait", ours("rescue wait"), "again", "", "rescue wait"},
		{"rescue failed", ours("rescue failed"), "permanent", "", "out of use"},
		{"unrescuing", ours("unrescuing"), "again", "", "unrescuing"},
		{"unrescue failed", ours("unrescue failed"), "permanent", "", "out of use"},
		// States of newer releases.
		{"rebuild", ours("rebuild"), "again", "", "rebuild"},
		{"deploy hold", ours("deploy hold"), "slow", "", "held"},
		{"clean hold", ours("clean hold"), "slow", "", "held"},
		{"servicing", ours("servicing"), "again", "", "servicing"},
		{"service wait", ours("service wait"), "again", "", "service wait"},
		{"service hold", ours("service hold"), "slow", "", "held"},
		{"service failed", ours("service failed"), "permanent", "", "out of use"},
		{"one that nobody knows", ours("dancing"), "temporary", "", "dancing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTyped(t, ironictest.Options{Timing: ironictest.Timing{Deploy: time.Minute, Power: time.Second}}, c.node)
			check(t, l, func() (ironic.Result, error) { return l.Deploy(t.Context(), ourDeploy) }, c.verdict, c.sends, c.says)
		})
	}
}

func check(t *testing.T, l *typed, step func() (ironic.Result, error), want, sends, says string) {
	t.Helper()
	r, err := step()
	if got := verdict(r, err); got != want {
		t.Errorf("verdict is %s (%+v, %v), want %s", got, r, err, want)
	}
	var requests []string
	if sends != "" {
		requests = []string{sends}
	}
	if diff := cmp.Diff(requests, l.changes()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	text := r.Message
	if err != nil {
		text = err.Error()
		if reason := fault.Reason(err, ""); reason == "" || strings.Contains(reason, "http") {
			t.Errorf("reason for the user is %q", reason)
		}
	}
	if !strings.Contains(text, says) {
		t.Errorf("says %q, want %q in it", text, says)
	}
}

func TestReleaseInEveryState(t *testing.T) {
	const (
		undeploy = "PUT /v1/nodes/" + nodeID + `/states/provision {"target":"deleted"}`
		forget   = "DELETE /v1/allocations/" + allocID + " "
	)
	nobodys := func(state string) nodes.Node {
		return with(ours(state), func(n *nodes.Node) { n.InstanceUUID = "" })
	}
	for _, c := range []struct {
		name    string
		node    nodes.Node
		held    bool // the allocation is still there
		verdict string
		sends   string
		says    string
	}{
		{"active", ours("active"), true, "again", undeploy, "began"},
		{"active, maintenance", with(ours("active"), func(n *nodes.Node) { n.Maintenance = true }), true, "again", undeploy, "began"},
		{"active, locked", with(ours("active"), func(n *nodes.Node) { n.Reservation = "conductor" }), true, "again", "", "locked"},
		{"active, protected", with(ours("active"), func(n *nodes.Node) { n.Protected, n.ProtectedReason = true, "keep" }), true, "permanent", "", "keep"},
		{"active, another's", with(ours("active"), func(n *nodes.Node) { n.InstanceUUID = nodeID }), false, "done", "", "another"},
		{"wait call-back", ours("wait call-back"), true, "again", undeploy, "began"},
		{"deploy failed", ours("deploy failed"), true, "again", undeploy, "began"},
		{"error", with(ours("error"), func(n *nodes.Node) { n.LastError = "BMC does not answer" }), true, "slow", undeploy, "BMC does not answer"},
		{"rescue", ours("rescue"), true, "again", undeploy, "began"},
		{"rescue wait", ours("rescue wait"), true, "again", undeploy, "began"},
		{"rescue failed", ours("rescue failed"), true, "again", undeploy, "began"},
		{"unrescue failed", ours("unrescue failed"), true, "again", undeploy, "began"},
		{"available", ours("available"), true, "done", forget, "not deployed"},
		{"manageable", ours("manageable"), true, "done", forget, "not deployed"},
		{"enroll", ours("enroll"), true, "done", forget, "not deployed"},
		{"clean failed, ours still", ours("clean failed"), true, "done", forget, "not deployed"},
		{"inspect failed", ours("inspect failed"), true, "done", forget, "not deployed"},
		{"adopt failed", ours("adopt failed"), true, "done", forget, "not deployed"},
		{"deploying", ours("deploying"), true, "again", "", "deploying"},
		{"rebuild", ours("rebuild"), true, "again", "", "rebuild"},
		{"deleting", ours("deleting"), true, "again", "", "deleting"},
		{"cleaning, ours still", ours("cleaning"), true, "again", "", "cleaning"},
		{"verifying", ours("verifying"), true, "again", "", "verifying"},
		{"inspecting", ours("inspecting"), true, "again", "", "inspecting"},
		{"inspect wait", ours("inspect wait"), true, "again", "", "inspect wait"},
		{"adopting", ours("adopting"), true, "again", "", "adopting"},
		{"rescuing", ours("rescuing"), true, "again", "", "rescuing"},
		{"unrescuing", ours("unrescuing"), true, "again", "", "unrescuing"},
		{"servicing", ours("servicing"), true, "again", "", "servicing"},
		{"deploy hold", ours("deploy hold"), true, "slow", "", "held"},
		{"service hold", ours("service hold"), true, "slow", "", "held"},
		{"clean hold, ours still", ours("clean hold"), true, "slow", "", "held"},
		{"one that nobody knows", ours("dancing"), true, "temporary", "", "dancing"},
		{"nobody's, deleting", nobodys("deleting"), false, "again", "", "deleting"},
		{"nobody's, cleaning", nobodys("cleaning"), false, "again", "", "cleaning"},
		{"nobody's, clean wait", nobodys("clean wait"), false, "again", "", "clean wait"},
		{"nobody's, clean hold", nobodys("clean hold"), false, "slow", "", "held"},
		{"nobody's, clean failed", with(nobodys("clean failed"), func(n *nodes.Node) { n.LastError = "disk is broken" }), false, "permanent", "", "disk is broken"},
		{"nobody's, available", nobodys("available"), false, "done", "", "available"},
		{"nobody's, manageable", nobodys("manageable"), false, "done", "", "manageable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTyped(t, ironictest.Options{Timing: ironictest.Timing{Undeploy: time.Minute}},
				with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = "" }))
			if c.held {
				if _, _, err := l.Allocate(t.Context(), ironic.AllocationRequest{Key: allocID, ResourceClass: "baremetal"}); err != nil {
					t.Fatal(err)
				}
			}
			l.Change(nodeID, func(n *nodes.Node) {
				allocated := n.AllocationUUID
				*n = c.node
				n.AllocationUUID = allocated
			})
			l.Forget()
			check(t, l, func() (ironic.Result, error) { return l.Release(t.Context(), nodeID, allocID) }, c.verdict, c.sends, c.says)
		})
	}
}

func TestEnrollGoesStepByStep(t *testing.T) {
	l := newTyped(t, ironictest.Options{Timing: ironictest.Timing{Verify: time.Minute, Clean: time.Minute, Power: time.Minute}})
	req := ironic.EnrollRequest{Name: "bm-1", ResourceClass: "baremetal", Traits: []string{"CUSTOM_X"}}
	var story []string
	for range 20 {
		_, r, err := l.Enroll(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		story = append(story, r.Message)
		if r.Done {
			break
		}
		l.clock.Advance(40 * time.Second)
	}
	want := []string{
		"enrolled", "set traits", "verifying", "verifying", "made available", "cleaning",
		"asked for power off", "locked by Ironic", "available",
	}
	if diff := cmp.Diff(want, story); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
	l.FailNext("bm-1", "manage", "BMC password is wrong").Change("bm-1", func(n *nodes.Node) { n.ProvisionState = "enroll" })
	for range 2 {
		_, r, err := l.Enroll(t.Context(), req)
		if err == nil && r.Done {
			t.Fatal("enrolled though the BMC does not answer")
		}
		l.clock.Advance(2 * time.Minute)
	}
	if _, _, err := l.Enroll(t.Context(), req); !fault.IsPermanent(err) || !strings.Contains(err.Error(), "BMC password is wrong") {
		t.Errorf("error is %v", err)
	}
}

// A deploy that fails on one machine goes on on another.
func TestFailedDeployMovesToAnotherHost(t *testing.T) {
	l := newTyped(t, ironictest.Options{Timing: ironictest.Timing{Deploy: time.Minute, CallBack: time.Minute, Clean: time.Minute}},
		with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = "" }),
		nodes.Node{Name: "bm-2", ResourceClass: "baremetal", PowerState: "power off"})
	l.FailNext("bm-1", "callback", "no DHCP answer")
	run := func(what string, step func(ctx context.Context) (ironic.Result, error)) error {
		for range 50 {
			r, err := step(t.Context())
			if err != nil || r.Done {
				return err
			}
			l.clock.Advance(20 * time.Second)
		}
		t.Fatalf("%s does not end", what)
		return nil
	}
	var a ironic.Allocation
	allocate := func(avoid ...string) func(ctx context.Context) (ironic.Result, error) {
		return func(ctx context.Context) (r ironic.Result, err error) {
			a, r, err = l.Allocate(ctx, ironic.AllocationRequest{Key: allocID, ResourceClass: "baremetal", Avoid: avoid})
			return r, err
		}
	}
	deploy := func(ctx context.Context) (ironic.Result, error) {
		return l.Deploy(ctx, ironic.DeployRequest{NodeID: a.NodeID, AllocationID: a.ID, Image: ourDeploy.Image})
	}
	if err := run("allocate", allocate()); err != nil || a.NodeID != nodeID {
		t.Fatalf("first allocation: %+v, %v", a, err)
	}
	if err := run("deploy", deploy); !fault.IsPermanent(err) || !strings.Contains(err.Error(), "no DHCP answer") || fault.Reason(err, "") != "bare-metal host bm-1 could not be deployed" {
		t.Fatalf("deploy: %v", err)
	}
	if err := run("release", func(ctx context.Context) (ironic.Result, error) { return l.Release(ctx, a.NodeID, a.ID) }); err != nil {
		t.Fatal(err)
	}
	if err := run("allocate another", allocate(nodeID)); err != nil || a.NodeID == nodeID {
		t.Fatalf("second allocation: %+v, %v", a, err)
	}
	if err := run("deploy another", deploy); err != nil {
		t.Fatal(err)
	}
	if n, _ := l.Get("bm-2"); n.ProvisionState != "active" || n.PowerState != "power on" {
		t.Errorf("second machine: %s, %s", n.ProvisionState, n.PowerState)
	}
}

func TestCleaningFails(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = "" }))
	a, _, err := l.Allocate(t.Context(), ironic.AllocationRequest{Key: allocID, ResourceClass: "baremetal"})
	if err != nil {
		t.Fatal(err)
	}
	l.Change(nodeID, func(n *nodes.Node) { n.ProvisionState = "active" })
	l.FailNext(nodeID, "clean", "disk is broken")
	if r, err := l.Release(t.Context(), nodeID, a.ID); verdict(r, err) != "again" {
		t.Fatalf("release: %+v, %v", r, err)
	}
	for range 2 {
		r, err := l.Release(t.Context(), nodeID, a.ID)
		if verdict(r, err) != "permanent" || !strings.Contains(err.Error(), "disk is broken") {
			t.Errorf("release: %+v, %v", r, err)
		}
	}
	l.Change(nodeID, func(n *nodes.Node) { n.ProvisionState, n.Maintenance = "available", false })
	if r, err := l.Release(t.Context(), nodeID, a.ID); verdict(r, err) != "done" {
		t.Errorf("release of the repaired machine: %+v, %v", r, err)
	}
}

// The delay follows the age of the work, by Ironic's clock.
func TestWaitsGrowWithTheWork(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("deploying"))
	for _, c := range []struct{ age, after time.Duration }{
		{0, 200 * time.Millisecond}, {2 * time.Second, 500 * time.Millisecond}, {20 * time.Second, 5 * time.Second}, {time.Hour, 10 * time.Second},
	} {
		l.clock.Advance(began.Add(c.age).Sub(l.clock.Now()))
		r, err := l.Deploy(t.Context(), ourDeploy)
		if err != nil || r.After != c.after {
			t.Errorf("after %v: look again after %v, %v; want %v", c.age, r.After, err, c.after)
		}
	}
}

func TestFaultsOfTheService(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   ironictest.Fault
		verdict string
		says    string
	}{
		{"locked", ironictest.Fault{Status: 409, Message: "Node is locked by host c1"}, "temporary", "locked by host c1"},
		{"500", ironictest.Fault{Status: 500, Message: "boom"}, "temporary", "boom"},
		{"502", ironictest.Fault{Status: 502}, "temporary", "Bad Gateway"},
		{"no conductor", ironictest.Fault{Status: 503, Message: "Resource temporarily unavailable"}, "temporary", "unavailable"},
		{"too many requests", ironictest.Fault{Status: 429}, "temporary", "429"},
		{"wrong credentials", ironictest.Fault{Status: 401}, "temporary", "[ironic]"},
		{"forbidden", ironictest.Fault{Status: 403, Message: "policy"}, "permanent", "policy"},
		{"refused for good", ironictest.Fault{Method: "PUT", Status: 400, Message: "Failed to validate deploy"}, "permanent", "Failed to validate deploy"},
		{"version not taken", ironictest.Fault{Status: 406, Message: "Not Acceptable"}, "permanent", "406"},
		{"no answer", ironictest.Fault{Hang: true}, "temporary", "cannot be reached"},
		{"cut", ironictest.Fault{Cut: true}, "temporary", "cannot be reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTyped(t, ironictest.Options{}, ours("available"))
			client := l.client(t, ironic.Options{Timeout: 200 * time.Millisecond})
			l.Inject(c.fault)
			r, err := client.Deploy(t.Context(), ourDeploy)
			if got := verdict(r, err); got != c.verdict || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("verdict is %s (%v), want %s with %q", got, err, c.verdict, c.says)
			}
		})
	}
}

// An answer that got lost: the next look finds what the request has done.
func TestLostAnswers(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, with(ours("available"), func(n *nodes.Node) { n.InstanceUUID, n.PowerState = "", "power off" }))
	cut := func(method string) { l.Inject(ironictest.Fault{Method: method, Cut: true, Times: 1}) }
	insist := func(what, method string, step func() (ironic.Result, error)) {
		t.Helper()
		cut(method)
		failures := 0
		for range 20 {
			r, err := step()
			if err != nil {
				failures++
				if fault.IsPermanent(err) {
					t.Fatalf("%s: %v", what, err)
				}
			}
			if r.Done {
				break
			}
			l.clock.Advance(r.After)
		}
		if failures != 1 {
			t.Errorf("%s failed %d times, want once", what, failures)
		}
	}
	var a ironic.Allocation
	insist("allocate", "POST", func() (r ironic.Result, err error) {
		a, r, err = l.Allocate(t.Context(), ironic.AllocationRequest{Key: allocID, ResourceClass: "baremetal"})
		return r, err
	})
	insist("deploy", "PUT", func() (ironic.Result, error) { return l.Deploy(t.Context(), ourDeploy) })
	insist("release", "PUT", func() (ironic.Result, error) { return l.Release(t.Context(), a.NodeID, a.ID) })
	if n, _ := l.Get(nodeID); n.ProvisionState != "available" || n.InstanceUUID != "" {
		t.Errorf("machine at the end: %s, instance %q", n.ProvisionState, n.InstanceUUID)
	}
}

// A 400 because the state changed between look and request is a lost race.
func TestLostRaceIsTemporary(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("available"))
	racing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			l.Change(nodeID, func(n *nodes.Node) { n.ProvisionState = "manageable" })
		}
		l.ServeHTTP(w, r)
	}))
	defer racing.Close()
	client := l.client(t, ironic.Options{Endpoint: racing.URL})
	if r, err := client.Deploy(t.Context(), ourDeploy); verdict(r, err) != "temporary" || !strings.Contains(err.Error(), `while it is in state "manageable"`) {
		t.Errorf("lost race: %+v, %v", r, err)
	}
	if r, err := client.Deploy(t.Context(), ourDeploy); verdict(r, err) != "permanent" {
		t.Errorf("next look: %+v, %v", r, err)
	}
}

func TestCandidatesComeFromAllPages(t *testing.T) {
	l := newTyped(t, ironictest.Options{MaxLimit: 3})
	var avoid []string
	for i := range 10 {
		id := uuid.NewString()
		l.Server.Node(nodes.Node{UUID: id, ResourceClass: "baremetal", PowerState: "power off"})
		if i < 9 {
			avoid = append(avoid, id)
		}
	}
	req := ironic.AllocationRequest{Key: "host-1", ResourceClass: "baremetal", Avoid: avoid}
	var a ironic.Allocation
	finish(t, "allocate", func(ctx context.Context) (r ironic.Result, err error) {
		a, r, err = l.Allocate(ctx, req)
		return r, err
	})
	if n, _ := l.Get(a.NodeID); n.InstanceUUID != a.ID || n.AllocationUUID != a.ID {
		t.Errorf("allocated %+v, node has instance %q", a, n.InstanceUUID)
	}
}

// Two processes ask under one key at once for the only machine there is: neither
// is told that there is none.
func TestMachineIsTakenUnderTheSameKey(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, with(ours("available"), func(n *nodes.Node) { n.InstanceUUID = "" }))
	req := ironic.AllocationRequest{Key: allocID, ResourceClass: "baremetal", Avoid: []string{"bm-9"}}
	quicker := l.client(t, ironic.Options{})
	var once sync.Once
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/nodes" {
			once.Do(func() {
				if _, _, err := quicker.Allocate(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
		l.ServeHTTP(w, r)
	}))
	defer between.Close()
	slower := l.client(t, ironic.Options{Endpoint: between.URL})
	if _, r, err := slower.Allocate(t.Context(), req); verdict(r, err) != "again" {
		t.Fatalf("the slower one: %+v, %v", r, err)
	}
	if a, r, err := slower.Allocate(t.Context(), req); verdict(r, err) != "done" || a.NodeID != nodeID {
		t.Errorf("the slower one at its next look: %+v, %+v, %v", a, r, err)
	}
}

func TestMachinesAreLargeEnough(t *testing.T) {
	size := func(cpus, memory, disk any) map[string]any {
		return map[string]any{"cpus": cpus, "memory_mb": memory, "local_gb": disk}
	}
	machine := func(name string, properties map[string]any) nodes.Node {
		return nodes.Node{Name: name, ResourceClass: "baremetal", PowerState: "power off", Properties: properties}
	}
	l := newTyped(t, ironictest.Options{},
		machine("unknown", nil), machine("few-cpus", size(7, 16384, 200)), machine("little-memory", size(8, "16383", 200)),
		machine("little-disk", size(8, 16384, 99)), machine("fits", size("8", 16384, 100)))
	allocate := func(key string) (string, error) {
		var a ironic.Allocation
		_, err := repeat(t, "allocate", func(ctx context.Context) (r ironic.Result, err error) {
			a, r, err = l.Allocate(ctx, ironic.AllocationRequest{Key: key, ResourceClass: "baremetal", CPUs: 8, MemoryMiB: 16384, DiskGiB: 100})
			return r, err
		})
		n, _ := l.Get(a.NodeID)
		return n.Name, err
	}
	if got, err := allocate("a"); err != nil || got != "fits" {
		t.Errorf("allocated %q, %v", got, err)
	}
	const want = `no bare-metal host of resource class "baremetal" with at least 8 CPUs, 16384 MiB memory and 100 GiB disk is free; add hosts or give some back`
	if _, err := allocate("b"); fault.Reason(err, "") != want || !strings.Contains(err.Error(), "1 in use, 4 too small") {
		t.Errorf("when it is taken: %v", err)
	}
}

func TestMachineIsTakenOut(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("available"))
	for _, reason := range []string{"no DHCP answer", "another"} {
		if err := l.TakeOut(t.Context(), nodeID, reason); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := l.Get(nodeID); !n.Maintenance || n.MaintenanceReason != "no DHCP answer" {
		t.Errorf("maintenance %v, %q", n.Maintenance, n.MaintenanceReason)
	}
	if err := l.TakeOut(t.Context(), uuid.NewString(), "x"); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}

func TestLockedCandidatesAreTriedAgain(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, with(ours("available"), func(n *nodes.Node) { n.InstanceUUID, n.Reservation = "", "conductor" }))
	req := ironic.AllocationRequest{Key: "host-1", ResourceClass: "baremetal"}
	if _, r, err := l.Allocate(t.Context(), req); verdict(r, err) != "again" {
		t.Fatalf("first: %+v, %v", r, err)
	}
	if _, r, err := l.Allocate(t.Context(), req); verdict(r, err) != "temporary" || !strings.Contains(err.Error(), "could not reserve any of 1 suitable nodes") {
		t.Errorf("locked: %+v, %v", r, err)
	}
}

func TestAddressOfAHost(t *testing.T) {
	network := map[string]any{"networks": []any{
		map[string]any{"type": "ipv6", "ip_address": "2001:db8::7"}, map[string]any{"type": "ipv4", "ip_address": "192.0.2.9/24"},
	}}
	for _, c := range []struct {
		name    string
		node    nodes.Node
		address string
	}{
		{"none", nodes.Node{DriverInfo: map[string]any{"redfish_address": "https://192.0.2.99"}}, ""},
		{"network data", nodes.Node{NetworkData: network}, "192.0.2.9"},
		{"extra wins", nodes.Node{NetworkData: network, Extra: map[string]any{ironic.ExtraAddress: "192.0.2.7"}}, "192.0.2.7"},
		{"nonsense", nodes.Node{NetworkData: map[string]any{"networks": "x"}, Extra: map[string]any{ironic.ExtraAddress: 7}}, ""},
	} {
		c.node.UUID, c.node.Properties = nodeID, map[string]any{"cpus": "16", "memory_mb": 65536, "local_gb": -1}
		l := newTyped(t, ironictest.Options{}, c.node)
		n, err := l.Client.Node(t.Context(), nodeID)
		if err != nil {
			t.Fatal(err)
		}
		if n.Address != c.address || n.CPUs != 16 || n.MemoryMiB != 65536 || n.DiskGiB != 0 {
			t.Errorf("%s: %+v, want address %q", c.name, n, c.address)
		}
	}
}

func TestConfigDriveReachesTheMachine(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("available"))
	req := ourDeploy
	req.ConfigDrive = ironic.ConfigDrive{
		MetaData: map[string]any{"hostname": "h1"}, UserData: "#cloud-config\n", NetworkData: map[string]any{"links": []any{}},
	}
	if _, err := l.Deploy(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want := `{"meta_data":{"hostname":"h1"},"network_data":{"links":[]},"user_data":"#cloud-config\n"}`
	if got := string(l.ConfigDrive(nodeID)); got != want {
		t.Errorf("config drive is\n\t%s\nwant\n\t%s", got, want)
	}
}

func TestChecksums(t *testing.T) {
	for checksum, want := range map[string]map[string]any{
		"":              {"image_source": "http://img"},
		"sha256:abc":    {"image_source": "http://img", "image_os_hash_algo": "sha256", "image_os_hash_value": "abc"},
		"d41d8cd9":      {"image_source": "http://img", "image_checksum": "d41d8cd9"},
		"http://h/SUMS": {"image_source": "http://img", "image_checksum": "http://h/SUMS"},
	} {
		l := newTyped(t, ironictest.Options{}, with(ours("available"), func(n *nodes.Node) { n.InstanceInfo = nil }))
		req := ourDeploy
		req.Image.Checksum = checksum
		if _, err := l.Deploy(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		n, _ := l.Get(nodeID)
		if diff := cmp.Diff(want, n.InstanceInfo); diff != "" {
			t.Errorf("checksum %q (-want +got):\n%s", checksum, diff)
		}
	}
}

func TestOldOrForeignServers(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		status       int
		permanent    bool
	}{
		{"too old", `{"default_version":{"min_version":"1.1","version":"1.50"}}`, 200, true},
		{"too new", `{"default_version":{"min_version":"1.90","version":"1.99"}}`, 200, true},
		{"not Ironic", `{"hello":"world"}`, 200, false},
		{"not JSON", `<html>`, 200, false},
		{"down", ``, 503, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.answer))
		}))
		client, err := ironic.New(ironic.Options{Endpoint: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err = client.Features(t.Context())
			if err == nil || fault.IsPermanent(err) != c.permanent || fault.Reason(err, "") == "" {
				t.Errorf("%s: %v (permanent %v)", c.name, err, fault.IsPermanent(err))
			}
		}
		client.Close()
		server.Close()
	}
}

func TestOldVersionIsSpokenWithOldServers(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("active"))
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/baremetal/" {
			_, _ = w.Write([]byte(`{"default_version":{"min_version":"1.1","version":"1.58"}}`))
			return
		}
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/baremetal")
		l.ServeHTTP(w, r)
	}))
	defer old.Close()
	client := l.client(t, ironic.Options{Endpoint: old.URL + "/baremetal/v1/"})
	if _, err := client.Deploy(t.Context(), ourDeploy); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Allocate(t.Context(), ironic.AllocationRequest{Key: "h", ResourceClass: "x", Avoid: []string{"y"}}); !fault.IsPermanent(err) {
		t.Errorf("allocate: %v", err)
	}
	for _, r := range l.Requests() {
		if r.Microversion != "1.58" || strings.Contains(r.Path, "retired") {
			t.Errorf("%s with version %q", r, r.Microversion)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	l := newTyped(t, ironictest.Options{}, ours("available"))
	l.Inject(ironictest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := l.Deploy(ctx, ourDeploy); !errors.Is(err, context.DeadlineExceeded) || fault.IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestOptionsAreCheckedTogether(t *testing.T) {
	noCertificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCertificate, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		opt  ironic.Options
		says []string
	}{
		{"nothing", ironic.Options{}, []string{"endpoint of Ironic is not set"}},
		{"bad URL", ironic.Options{Endpoint: "ftp://x"}, []string{`endpoint "ftp://x" is not an http or https URL`}},
		{"unknown auth", ironic.Options{Auth: "basic", Endpoint: "http://x"}, []string{`auth type "basic"`}},
		{"password, all missing", ironic.Options{Auth: ironic.AuthPassword, CAFile: noCertificate}, []string{"auth_url", "username", "password", "project_name", "holds no certificate"}},
		{"no such CA file", ironic.Options{Endpoint: "http://x", CAFile: noCertificate + "x"}, []string{"no such file"}},
	} {
		_, err := ironic.New(c.opt)
		for _, s := range c.says {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%s: error is %v, want %q in it", c.name, err, s)
			}
		}
	}
}

// With a password, requests carry a token of the identity service.
func TestPasswordLogin(t *testing.T) {
	keystone := testenv.Require(t, testenv.Keystone)
	l := newTyped(t, ironictest.Options{}, ours("active"))
	tokens := make(chan string, 10)
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			tokens <- r.Header.Get("X-Auth-Token")
		}
		l.ServeHTTP(w, r)
	}))
	defer guarded.Close()
	login := ironic.Options{
		Auth: ironic.AuthPassword, Endpoint: guarded.URL, AuthURL: keystone, Username: "admin", Password: os.Getenv(testenv.KeystonePassword),
		UserDomainName: "Default", ProjectName: "admin", ProjectDomainName: "Default",
	}
	client := l.client(t, login)
	if r, err := client.Deploy(t.Context(), ourDeploy); verdict(r, err) != "done" {
		t.Fatalf("deploy: %+v, %v", r, err)
	}
	if token := <-tokens; len(token) < 20 {
		t.Errorf("request carried token %q", token)
	}
	login.Password, login.Logger = "a wrong secret", slog.New(slog.DiscardHandler)
	wrong, err := ironic.New(login)
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	_, err = wrong.Deploy(t.Context(), ourDeploy)
	if err == nil || fault.IsPermanent(err) || strings.Contains(err.Error(), "a wrong secret") {
		t.Errorf("login with a wrong password: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	client, err := ironic.New(ironic.Options{Endpoint: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Deploy(t.Context(), ourDeploy)
	if fault.IsPermanent(err) || fault.Reason(err, "") != "the bare-metal service cannot be reached" {
		t.Errorf("error is %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
)

// made is a cluster of Ann's that a conductor has begun to make: two nodes, of
// which one has joined and stands still by now.
func (w *world) made() (cluster string, fence store.Fence) {
	w.t.Helper()
	ctx := w.t.Context()
	cluster = w.cluster(object{"name": "demo", "cluster_template_id": w.template(swarm())})
	op := w.operations(cluster)[0]
	claimed, err := w.store.Claim(ctx, op.UUID, "test", time.Minute, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	fence = store.FenceOf(claimed)
	groups, err := w.store.NodeGroups(ctx, cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	var nodes []model.Node
	for i, g := range groups[cluster] {
		nodes = append(nodes, model.Node{
			Name: "demo-" + strconv.Itoa(i), NodeGroupID: g.UUID, Role: g.Role, VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20, Image: "debian-12-docker",
		})
	}
	if err := w.store.AddNodes(ctx, fence, nodes); err != nil {
		w.t.Fatal(err)
	}
	step := model.Step{Name: "node.start", NodeName: "demo-0", Attempts: 1, State: model.StepRunning}
	begun := store.StepChange{Step: step, Event: model.EventStepStart}
	step.State, step.Message = model.StepDone, "runs on host host-1"
	if err := w.store.WriteSteps(ctx, fence, begun, store.StepChange{Step: step, Event: model.EventStepEnd}); err != nil {
		w.t.Fatal(err)
	}
	return cluster, fence
}

func TestExtras_NodesOperationsAndEventsTellWhatGoesOn(t *testing.T) {
	each(t, func(w *world) {
		cluster, fence := w.made()
		nodes := w.ask("reader", "GET", "/v1/clusters/demo/nodes", nil).want(200).items("nodes")
		if len(nodes) != 2 || nodes[0]["nodegroup"] != "default-master" || nodes[1]["status"] != "wanted" || nodes[1]["memory_mb"] != 4096.0 {
			w.t.Errorf("nodes: %v", nodes)
		}
		operations := w.ask("ann", "GET", "/v1/clusters/"+cluster+"/operations", nil).want(200).items("operations")
		steps := operations[0]["steps"].([]any)
		if len(operations) != 1 || operations[0]["kind"] != "create" || len(steps) != 1 || steps[0].(map[string]any)["message"] != "runs on host host-1" {
			w.t.Errorf("operations: %v", operations)
		}
		if err := w.store.Finish(w.t.Context(), fence, model.OpDone, model.CreateComplete, nil, nil); err != nil {
			w.t.Fatal(err)
		}
		events := w.ask("ann", "GET", "/v1/clusters/demo/events", nil).want(200).items("events")
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, e["kind"].(string))
			if e["user_id"] != "user-ann" || !requestIDForm.MatchString(e["request_id"].(string)) {
				w.t.Errorf("the event does not say by whom: %v", e)
			}
		}
		want := []string{"cluster.status", "operation.start", "step.start", "step.end", "cluster.status", "operation.end"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			w.t.Errorf("kinds (-want +got):\n%s", diff)
		}
		third := strconv.Itoa(int(events[2]["id"].(float64)))
		rest := w.ask("ann", "GET", "/v1/clusters/demo/events?after="+third+"&limit=2", nil).want(200).items("events")
		if len(rest) != 2 || rest[0]["kind"] != "step.end" {
			w.t.Errorf("after %s: %v", third, rest)
		}
		newest := w.ask("ann", "GET", "/v1/clusters/demo/events?sort_dir=desc&limit=2&after="+third, nil).want(200).items("events")
		if len(newest) != 2 || newest[0]["id"] != events[5]["id"] || newest[1]["id"] != events[4]["id"] {
			w.t.Errorf("the newest: %v", newest)
		}
		if first := w.ask("ann", "GET", "/v1/clusters/demo/operations?limit=1", nil).want(200).items("operations"); len(first) != 1 {
			w.t.Errorf("one operation: %v", first)
		}
	})
}

func TestExtras_AreOfTheOwnProjectOnly(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	cluster, _ := w.made()
	for _, path := range []string{"nodes", "operations", "events"} {
		w.ask("zoe", "GET", "/v1/clusters/"+cluster+"/"+path, nil).want(404)
		w.ask("admin", "GET", "/v1/clusters/"+cluster+"/"+path, nil).want(200)
		w.ask("ann", "GET", "/v1/clusters/nowhere/"+path, nil).want(404)
		w.ask("", "GET", "/v1/clusters/"+cluster+"/"+path, nil).want(401)
	}
	w.ask("zoe", "GET", "/v1/clusters/"+cluster+"/events", nil, "Accept: text/event-stream").want(404)
	w.ask("zoe", "POST", "/v1/clusters/"+cluster+"/credentials/bundle", nil).want(404)
	w.ask("bob", "POST", "/v1/clusters/"+cluster+"/credentials/bundle", nil).want(403).saying("certificate:create")
}

func TestExtras_RefuseWhatTheyCanNotRead(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.made()
	for path, words := range map[string]string{
		"/v1/clusters/demo/operations?limit=0": "limit", "/v1/clusters/demo/operations?marker=x": "marker",
		"/v1/clusters/demo/events?after=x": "after", "/v1/clusters/demo/events?after=-1": "after", "/v1/clusters/demo/events?limit=many": "limit",
		"/v1/clusters/demo/events?sort_dir=up": "sort_dir",
	} {
		w.ask("ann", "GET", path, nil).want(400).saying(words)
	}
	w.ask("ann", "GET", "/v1/clusters/demo/events", nil, "Accept: text/event-stream", "Last-Event-ID: x").want(400).saying("Last-Event-ID")
	w.ask("ann", "GET", "/v1/clusters/demo/events?sort_dir=desc", nil, "Accept: text/event-stream").want(400).saying("oldest first")
	w.ask("ann", "GET", "/v1/clusters/demo/nodes", nil, "Accept: text/event-stream").want(406)
}

func TestExtras_HostsAreForAdministrators(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	storetest.Hosts(t, w.store, 2)
	w.ask("ann", "GET", "/v1/hosts", nil).want(403).saying("host:get_all")
	hosts := w.ask("admin", "GET", "/v1/hosts", nil).want(200).items("hosts")
	if len(hosts) != 2 || hosts[0]["name"] != "host-1" || hosts[0]["vcpus"] != 32.0 || hosts[0]["nodes"] != 0.0 {
		t.Errorf("hosts: %v", hosts)
	}
}

func TestExtras_DriversAreForAdministrators(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	w.ask("ann", "GET", "/v1/drivers", nil).want(403).saying("driver:get_all")
	w.ask("admin", "GET", "/v1/drivers?name=nomad", nil).want(400).saying("name")
	drivers := w.ask("admin", "GET", "/v1/drivers", nil).want(200).items("drivers")
	if len(drivers) != 2 || drivers[0]["kind"] != "stub" || drivers[0]["skipped"] != nil || drivers[1]["skipped"] != "its checksum is not pinned" {
		t.Errorf("drivers: %v", drivers)
	}
}

// listen connects to the cluster's events over real HTTP and returns each of
// them; the channel is closed when the stream ends.
func listen(t *testing.T, server *httptest.Server, cluster, after string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/clusters/"+cluster+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", "ann")
	r.Header.Set("Accept", "text/event-stream")
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %v", answer.StatusCode, answer.Header)
	}
	lines := make(chan string)
	go func() {
		defer cancel()
		defer answer.Body.Close()
		defer close(lines)
		for s := bufio.NewScanner(answer.Body); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// kind reads up to the next event and returns its id and kind.
func kind(t *testing.T, lines <-chan string) (id, kind string) {
	t.Helper()
	for line := range lines {
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			return id, v
		}
	}
	t.Fatal("the stream ended")
	return
}

func TestExtras_AStreamOfEventsEndsWithTheCluster(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	handler := api.New(w.again(nil))
	server := httptest.NewServer(handler)
	defer server.Close()
	cluster, fence := w.made()
	lines := listen(t, server, cluster, "")
	var last string
	for _, want := range []string{"cluster.status", "operation.start", "step.start", "step.end"} {
		id, got := kind(t, lines)
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		last = id
	}
	if err := w.store.Finish(t.Context(), fence, model.OpDone, model.CreateComplete, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []<-chan string{lines, listen(t, server, cluster, last)} { // the second one comes back
		for _, want := range []string{"cluster.status", "operation.end"} {
			if _, got := kind(t, stream); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	w.ask("ann", "DELETE", "/v1/clusters/"+cluster, nil).want(204)
	w.finish(cluster, model.DeleteComplete)
	var text string
	for line := range lines {
		text += line + "\n"
	}
	if !strings.Contains(text, "Deletion is done.") {
		t.Errorf("the stream of a cluster that is gone ended with\n%s", text)
	}
}

func TestExtras_StreamsEndWithTheProcessAndAreFew(t *testing.T) {
	w := newWorld(t, storetest.New(t))
	closing := make(chan struct{})
	server := httptest.NewServer(api.New(w.again(closing)))
	defer server.Close()
	cluster, _ := w.made()
	streams := []<-chan string{listen(t, server, cluster, ""), listen(t, server, cluster, "")}
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v1/clusters/"+cluster+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", "bob")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the third stream of a project: %d", answer.StatusCode)
	}
	close(closing)
	for _, s := range streams {
		for range s {
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for { // what they took they have given back
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d", answer.StatusCode)
		}
	}
}

// bundleOf unpacks an archive, by base name.
func bundleOf(t *testing.T, raw string) map[string]string {
	t.Helper()
	r, err := zip.NewReader(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(f.Name, "demo/")] = string(text)
	}
	return files
}

func TestExtras_ABundleHoldsWhatADockerClientNeeds(t *testing.T) {
	each(t, func(w *world) {
		cluster, fence := w.made()
		const path = "/v1/clusters/demo/credentials/bundle"
		w.ask("ann", "POST", path, nil).want(404).saying("CREATE_IN_PROGRESS")
		if err := w.store.ObserveCluster(w.t.Context(), fence, "", "tcp://192.0.2.7:2376", "", ""); err != nil {
			w.t.Fatal(err)
		}
		a := w.ask("ann", "POST", path, object{"ttl_seconds": 3600}).want(200)
		if got := a.header.Get("Content-Disposition"); got != "attachment; filename=demo.zip" {
			w.t.Errorf("it is called %s", got)
		}
		files := bundleOf(t, a.raw)
		if len(files) != 9 || !strings.Contains(files["docker.env"], "tcp://192.0.2.7:2376") {
			w.t.Errorf("the bundle has %d files", len(files))
		}
		pair, err := tls.X509KeyPair([]byte(files["cert.pem"]), []byte(files["key.pem"]))
		if err != nil {
			w.t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			w.t.Fatal(err)
		}
		if left := time.Until(certificate.NotAfter); left < 58*time.Minute || left > time.Hour {
			w.t.Errorf("the certificate is valid for %s", left)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(files["ca.pem"]))
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			w.t.Error(err)
		}

		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			w.t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			w.t.Fatal(err)
		}
		var text bytes.Buffer
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		files = bundleOf(t, w.ask("ann", "POST", "/v1/clusters/"+cluster+"/credentials/bundle", object{"csr": text.String()}).want(200).raw)
		if _, there := files["key.pem"]; there || len(files) != 7 {
			w.t.Errorf("a key that is not ours to give, or %d files", len(files))
		}
		w.ask("ann", "POST", path, object{"csr": "no request"}).want(400).saying("csr")
		w.ask("ann", "POST", path, object{"ttl_seconds": 10}).want(400).saying("ttl_seconds")
		w.ask("ann", "POST", path, object{"ttl_seconds": 31536001}).want(400).saying("ttl_seconds")
		w.ask("ann", "POST", path, object{"colour": "red"}).want(400).saying("colour")
	})
}

func TestExtras_NodesAreRebuiltAndRepaired(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.t.Context()
		cluster, fence := w.made()
		const rebuild, repair = "/v1/clusters/demo/actions/rebuild", "/v1/clusters/demo/actions/repair"
		w.ask("ann", "POST", rebuild, nil).want(400).saying("CREATE_IN_PROGRESS")
		nodes, err := w.store.Nodes(ctx, cluster)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, n := range nodes[cluster] {
			if err := w.store.NodeState(ctx, fence, n.UUID, model.NodeReady, nil); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := w.store.Finish(ctx, fence, model.OpDone, model.CreateComplete, nil, nil); err != nil {
			w.t.Fatal(err)
		}
		w.ask("zoe", "POST", rebuild, nil).want(404)
		w.ask("reader", "POST", rebuild, nil).want(403).saying("cluster:update")
		w.ask("ann", "POST", rebuild, object{"nodes": []string{"demo-9"}}).want(400).saying("demo-9")
		w.ask("ann", "POST", rebuild, object{"nodes": "demo-0"}).want(400).saying("nodes")

		w.ask("ann", "POST", repair, nil).want(202).is("uuid", cluster)
		if ops := w.operations(cluster); len(ops) != 1 {
			w.t.Errorf("the repair of a cluster that is well: %v", ops)
		}
		if err := w.store.SetHealth(ctx, cluster, new("UNHEALTHY"), model.Labels{"demo-0.Ready": "True", "demo-1.Ready": "False: down"}); err != nil {
			w.t.Fatal(err)
		}
		w.ask("ann", "POST", repair, nil).want(202)
		ops := w.operations(cluster)
		if last := ops[len(ops)-1]; last.Kind != model.OpRebuild || len(last.Spec.Nodes) != 1 || last.Spec.Nodes[0] != nodes[cluster][1].UUID {
			w.t.Errorf("the repair: %+v", last)
		}
		w.ask("ann", "POST", repair, nil).want(400).saying("UPDATE_IN_PROGRESS") // one after the other
		w.finish(cluster, model.UpdateComplete)
		for _, body := range []any{nil, object{"nodes": []string{"demo-0", nodes[cluster][1].UUID}}} {
			w.ask("ann", "POST", rebuild, body).want(202)
			ops = w.operations(cluster)
			if last := ops[len(ops)-1]; len(last.Spec.Nodes) != 2 || len(last.Spec.NodeGroups) != 2 {
				w.t.Errorf("the rebuild: %+v", last)
			}
			w.finish(cluster, model.UpdateFailed) // may be asked for again
		}
	})
}

func TestExtras_AutoscalingIsSetAndShown(t *testing.T) {
	each(t, func(w *world) {
		cluster, _ := w.made()
		const path = "/v1/clusters/demo/autoscale"
		a := w.ask("ann", "GET", path, nil).want(200)
		a.is("enabled", false)
		a.is("threshold_percent", 80.0)
		a.is("settle_seconds", 300.0)
		a.is("last_decision", nil)
		for range 2 {
			a = w.ask("ann", "PUT", path, object{
				"enabled": true, "threshold_percent": 70, "nodegroups": []object{{"name": "default-worker", "max_node_count": 3}},
			}).want(200)
			a.is("enabled", true)
			a.is("threshold_percent", 70.0)
			a.is("settle_seconds", 300.0)
		}
		groups := a.items("nodegroups")
		if groups[0]["autoscale"] != false || groups[1]["autoscale"] != true || groups[1]["max_node_count"] != 3.0 {
			w.t.Errorf("node groups: %v", groups)
		}
		w.ask("zoe", "PUT", path, object{"enabled": true}).want(404)
		w.ask("reader", "PUT", path, object{"enabled": true}).want(403).saying("cluster:update")
		for words, body := range map[string]object{
			"threshold_percent": {"threshold_percent": 101}, "settle_seconds": {"settle_seconds": -1}, "colour": {"colour": "red"},
			"no node group": {"nodegroups": []object{{"name": "other"}}}, "array of objects": {"nodegroups": object{}},
			"role is master":    {"nodegroups": []object{{"name": "default-master", "autoscale": true}}},
			"less than the 1":   {"nodegroups": []object{{"name": "default-worker", "max_node_count": 0}}},
			"more than the 1 n": {"nodegroups": []object{{"name": "default-worker", "min_node_count": 2}}},
		} {
			if words == "less than the 1" {
				words = "max_node_count"
			}
			w.ask("ann", "PUT", path, body).want(400).saying(words)
		}

		usage := w.ask("reader", "GET", "/v1/clusters/demo/usage", nil).want(200)
		if len(usage.items("nodes"))+len(usage.items("samples")) != 0 {
			w.t.Errorf("nobody has looked: %s", usage.raw)
		}
		for range 2 {
			err := w.store.AddSample(w.t.Context(), cluster, []model.NodeUsage{{Name: "demo-0", CPUs: 2000, CPUsReserved: 500, Memory: 4 << 30, MemoryReserved: 1 << 30}})
			if err != nil {
				w.t.Fatal(err)
			}
		}
		usage = w.ask("reader", "GET", "/v1/clusters/demo/usage", nil).want(200)
		nodes, samples := usage.items("nodes"), usage.items("samples")
		if len(nodes) != 1 || len(samples) != 2 || nodes[0]["cpus_reserved"] != 0.5 || samples[1]["memory_mb_reserved"] != 1024.0 {
			w.t.Errorf("usage: %s", usage.raw)
		}
	})
}

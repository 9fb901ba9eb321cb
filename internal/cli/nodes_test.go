// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// TestNodesAndEvents tell what there is and what happened, to the very end.
func TestNodesAndEvents(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("told")
	p.must("create", "told", "--template", "swarm", "--wait")
	if got := p.must("nodes", "told", "-f", "value", "-c", "name", "-c", "status"); got != "told-master-0 ready\ntold-worker-0 ready\n" {
		t.Errorf("nodes are %q", got)
	}
	p.fails(3, "keelson list", "nodes", "nobody")
	p.fails(3, "keelson list", "events", "nobody")

	past := p.must("events", "told")
	if !strings.Contains(past, "told-worker-0") || !strings.Contains(past, "CREATE_COMPLETE") {
		t.Errorf("events are\n%s", past)
	}
	var events []struct{ ID int64 }
	if err := json.Unmarshal([]byte(p.must("events", "told", "-f", "json")), &events); err != nil || len(events) != strings.Count(past, "\n") {
		t.Errorf("%d events as JSON (%v), and as lines\n%s", len(events), err, past)
	}
	if lines := strings.SplitAfter(past, "\n"); p.must("events", "told", "--last", "2") != strings.Join(lines[len(lines)-3:], "") {
		t.Errorf("the last two of\n%sare\n%s", past, p.must("events", "told", "--last", "2"))
	}
	p.fails(2, "--last 0", "events", "told", "--last", "0")
	p.fails(2, "--follow", "events", "told", "--follow", "-f", "json")

	follow := p.command("events", "told", "--follow")
	var out bytes.Buffer
	follow.Stdout = &out
	p.cloud.seen()
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = follow.Process.Kill() })
	defer stuck.Stop()
	p.must("delete", "told", "--yes", "--wait")
	if err := follow.Wait(); err != nil {
		t.Errorf("following until the cluster is gone: %v", err)
	}
	if !strings.HasPrefix(out.String(), past) || !strings.Contains(out.String(), "DELETE_IN_PROGRESS") {
		t.Errorf("what was followed is\n%s", &out)
	}
}

// TestNodesAreMended, and made anew; and the cluster is told to grow by itself.
func TestNodesAreMended(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("mended")
	p.must("create", "mended", "--template", "swarm", "--wait")
	for range 2 {
		p.must("repair", "mended", "--wait")
		p.must("rebuild", "mended", "--node", "mended-worker-0", "--wait")
		if got := p.must("autoscale", "mended", "on", "--max", "4", "--threshold", "70", "-f", "value", "-c", "enabled", "-c", "threshold_percent"); got != "true\n70\n" {
			t.Errorf("autoscaling is %q", got)
		}
	}
	if got := p.must("autoscale", "mended"); !strings.Contains(got, "at most 4 nodes") {
		t.Errorf("autoscaling is\n%s", got)
	}
	p.must("autoscale", "mended", "off")
	p.fails(1, "no node \"nobody\"", "rebuild", "mended", "--node", "nobody")
	p.fails(1, "max_node_count", "autoscale", "mended", "--min", "0", "--max", "0")
}

// TestOtherServices know nothing of what is Keelson's own: then waiting looks
// at the status, and credentials are had by Magnum's way.
func TestOtherServices(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	target, err := url.Parse(p.cloud.front.URL)
	if err != nil {
		t.Fatal(err)
	}
	onward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	magnum := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, own := range []string{"/nodes", "/events", "/operations", "/autoscale", "/bundle", "/rebuild", "/repair"} {
			if strings.HasSuffix(r.URL.Path, own) {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"errors": [{"detail": ""}]}`)
				return
			}
		}
		onward.ServeHTTP(w, r)
	}))
	defer magnum.Close()
	session := p.session()
	session["endpoint"] = magnum.URL + "/v1"
	text, err := json.Marshal(session)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.sessionFile(), text, 0o600); err != nil {
		t.Fatal(err)
	}

	p.must("create", "plain", "--template", "swarm", "--wait")
	p.must("grow", "plain", "--wait")
	if got := p.field("plain", "node_count"); got != "2" {
		t.Errorf("grown to %s nodes, want 2", got)
	}
	p.must("credentials", "plain")
	p.fails(1, "does not serve nodes", "nodes", "plain")
	p.fails(1, "does not serve events", "events", "plain")
	p.fails(1, "does not serve actions/repair", "repair", "plain")
	p.must("delete", "plain", "--yes", "--wait")
}

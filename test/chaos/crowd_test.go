// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keelson/keelson/test/chaos/ledger"
	"github.com/keelson/keelson/test/rig"
)

// crowd is the users.
type crowd struct {
	rig    *rig.Rig
	ledger *ledger.Writer
	t      *testing.T
	want   int64 // accepted requests
	seed   uint64

	template [][2]string // of each project
	accepted atomic.Int64
	names    atomic.Int64
}

var client = &http.Client{Timeout: 40 * time.Second}

// answer is what came back; status 0 means that nothing did.
type answer struct {
	status int
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

// ask asks one of the API processes, as a load balancer does, and notes what
// came back.
func (c *crowd) ask(ctx context.Context, chance *rand.Rand, project int, method, path string, body any, note ledger.Entry) answer {
	var content io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		content = bytes.NewReader(text)
	}
	apis := c.rig.Of("api")
	r, err := http.NewRequestWithContext(ctx, method, apis[chance.IntN(len(apis))].URL+path, content)
	if err != nil {
		panic(err)
	}
	r.Header.Set("X-Auth-Token", c.rig.Tokens[project])
	r.Header.Set("OpenStack-API-Version", "container-infra latest")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	note.Kind, note.Method, note.Path, note.From = ledger.Answer, method, path, time.Now()
	var a answer
	if reply, err := client.Do(r); err == nil {
		text, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		note.RequestID, note.RetryAfter = reply.Header.Get("X-Openstack-Request-Id"), reply.Header.Get("Retry-After")
		if err == nil {
			a.status = reply.StatusCode
			_ = json.Unmarshal(text, &a.body)
		}
	}
	note.To, note.Status = time.Now(), a.status
	if note.Asked == "create" {
		note.Cluster = a.text("uuid")
	}
	c.ledger.Write(note)
	if note.Asked != "" && a.status >= 200 && a.status < 300 {
		c.accepted.Add(1)
	}
	return a
}

// templates makes two for each project, before there is any trouble.
func (c *crowd) templates(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(c.seed, 2))
	for project := range c.rig.Tokens {
		var two [2]string
		for i := range two {
			a := c.ask(ctx, chance, project, "POST", "/v1/clustertemplates", map[string]any{
				"name": fmt.Sprint("t", i), "coe": "swarm-mode", "image_id": "keelson-node",
			}, ledger.Entry{})
			if two[i] = a.text("uuid"); two[i] == "" {
				return fmt.Errorf("no template: %d %v", a.status, a.body)
			}
		}
		c.template = append(c.template, two)
	}
	return nil
}

// work lets users come and go until enough was asked for, or time is up.
func (c *crowd) work(ctx context.Context, s size) {
	ctx, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	var all sync.WaitGroup
	for i := range s.stories {
		all.Go(func() {
			chance := rand.New(rand.NewPCG(c.seed, uint64(100+i)))
			for ctx.Err() == nil && c.accepted.Load() < c.want {
				story{c, chance, chance.IntN(len(c.rig.Tokens))}.tell(ctx)
			}
		})
	}
	all.Wait()
}

// story is one user with one cluster.
type story struct {
	*crowd
	chance  *rand.Rand
	project int
}

func (s story) enough(ctx context.Context) bool {
	return ctx.Err() != nil || s.accepted.Load() >= s.want
}

func (s story) pause(ctx context.Context, most time.Duration) {
	select {
	case <-time.After(time.Duration(s.chance.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}

func (s story) request(ctx context.Context, asked, method, path string, body any, note ledger.Entry) answer {
	note.Asked = asked
	return s.ask(ctx, s.chance, s.project, method, path, body, note)
}

// settled waits until nothing is in progress with the cluster, and returns its
// status; "gone" when it is.
func (s story) settled(ctx context.Context, id string) string {
	for ctx.Err() == nil {
		a := s.request(ctx, "", "GET", "/v1/clusters/"+id, nil, ledger.Entry{})
		status := a.text("status")
		switch {
		case a.status == http.StatusNotFound:
			return "gone"
		case a.status == http.StatusOK && len(status) > 12 && status[len(status)-12:] != "_IN_PROGRESS":
			return status
		case a.status == http.StatusOK && len(status) <= 12:
			return status
		}
		s.pause(ctx, 200*time.Millisecond)
	}
	return ""
}

func (s story) tell(ctx context.Context) {
	made := s.request(ctx, "create", "POST", "/v1/clusters", map[string]any{
		"name": fmt.Sprint("c", s.names.Add(1)), "cluster_template_id": s.template[s.project][0],
		"node_count": s.chance.IntN(3), "master_count": 1,
	}, ledger.Entry{})
	id := made.text("uuid")
	if id == "" {
		s.pause(ctx, 500*time.Millisecond) // quota, 503, or the connection broke
		if made.status == http.StatusForbidden {
			s.makeRoom(ctx)
		}
		return
	}
	if s.chance.IntN(4) == 0 { // in the middle of the create
		s.pause(ctx, 300*time.Millisecond)
		s.remove(ctx, id)
		return
	}
	for status := s.settled(ctx, id); s.chance.IntN(5) > 0 && !s.enough(ctx); status = s.settled(ctx, id) {
		if status == "gone" || status == "DELETE_FAILED" {
			break
		}
		s.change(ctx, id, status)
		if s.chance.IntN(4) == 0 { // in the middle of the change
			break
		}
	}
	if s.chance.IntN(3) > 0 {
		s.remove(ctx, id)
	}
}

// change asks for something else of a cluster at rest.
func (s story) change(ctx context.Context, id, status string) {
	switch s.chance.IntN(6) {
	case 0:
		s.request(ctx, "rotate", "PATCH", "/v1/certificates/"+id, nil, ledger.Entry{Cluster: id})
	case 1:
		s.request(ctx, "upgrade", "POST", "/v1/clusters/"+id+"/actions/upgrade",
			map[string]any{"cluster_template": s.template[s.project][s.chance.IntN(2)]}, ledger.Entry{Cluster: id})
	case 2:
		s.request(ctx, "group", "POST", "/v1/clusters/"+id+"/nodegroups", map[string]any{"name": fmt.Sprint("g", s.names.Add(1)), "node_count": 1}, ledger.Entry{Cluster: id})
	default:
		s.resize(ctx, id)
	}
}

func (s story) resize(ctx context.Context, id string) {
	groups, _ := s.request(ctx, "", "GET", "/v1/clusters/"+id+"/nodegroups", nil, ledger.Entry{}).body["nodegroups"].([]any)
	for _, g := range groups {
		group, _ := g.(map[string]any)
		if group["role"] == "master" {
			continue
		}
		uuid, _ := group["uuid"].(string)
		now, _ := group["node_count"].(float64)
		count := (int(now) + 1 + s.chance.IntN(3)) % 4
		if count == int(now) {
			continue // nothing would be to do
		}
		s.request(ctx, "resize", "POST", "/v1/clusters/"+id+"/actions/resize",
			map[string]any{"node_count": count, "nodegroup": uuid}, ledger.Entry{Cluster: id, Group: uuid, Count: count})
		return
	}
}

// remove deletes the cluster, until that is done.
func (s story) remove(ctx context.Context, id string) {
	for range 10 {
		a := s.request(ctx, "delete", "DELETE", "/v1/clusters/"+id, nil, ledger.Entry{Cluster: id})
		if a.status == http.StatusNoContent && s.chance.IntN(3) == 0 {
			s.request(ctx, "delete", "DELETE", "/v1/clusters/"+id, nil, ledger.Entry{Cluster: id})
		}
		if s.settled(ctx, id) == "gone" || ctx.Err() != nil {
			return
		}
	}
}

// makeRoom deletes a cluster of the project, when its quota is used up.
func (s story) makeRoom(ctx context.Context) {
	list, _ := s.request(ctx, "", "GET", "/v1/clusters", nil, ledger.Entry{}).body["clusters"].([]any)
	if len(list) == 0 {
		return
	}
	one, _ := list[s.chance.IntN(len(list))].(map[string]any)
	if id, _ := one["uuid"].(string); id != "" {
		s.remove(ctx, id)
	}
}

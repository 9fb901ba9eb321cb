// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// row is one line of the table: a request and its yardstick.
type row struct {
	name       string
	server     *server
	request    request
	yardServer *server
	yard       request
	target     target
	world      *world
}

// prepare takes away what rows before have left to do.
func (r *row) prepare(ctx context.Context) error {
	_, err := r.world.db.ExecContext(ctx, "UPDATE operations SET state = 'done', published_at = UTC_TIMESTAMP()")
	return err
}

func (s *site) profileFile(r *row) string {
	if s.options.profile == "" {
		return ""
	}
	return filepath.Join(s.options.profile, strings.NewReplacer(" ", "-", ",", "").Replace(r.name)+".pprof")
}

// get is a row of a GET request.
func (s *site) get(w *world, name, path, yard string, t target) *row {
	return &row{
		name: name, world: w, target: t,
		server: w.api, request: request{method: "GET", path: path, token: s.tokens.user},
		yardServer: s.yard, yard: request{method: "GET", path: fmt.Sprintf("/%d%s", w.size, yard), token: s.tokens.user},
	}
}

func (s *site) list(w *world, limit int, t target) *row {
	return s.get(w, fmt.Sprintf("list of %d, %d clusters", limit, w.size),
		fmt.Sprintf("/v1/clusters?limit=%d", limit), fmt.Sprintf("/clusters?limit=%d&after=0", limit), t)
}

// cold makes a row be about the process that asks Keystone about each token.
func (r *row) cold() *row {
	r.name += ", cold"
	r.server, r.target = r.world.cold, target{}
	r.yard.path = strings.Replace(r.yard.path, "/clusters", "/cold/clusters", 1)
	return r
}

func (s *site) rows() []*row {
	small, usual, large := s.worlds[10], s.worlds[1000], s.worlds[s.most]
	quick := target{atLeast: 0.6}
	show := func(w *world, t target) *row {
		path := "/clusters/" + w.middle
		return s.get(w, fmt.Sprintf("show, %d clusters", w.size), "/v1"+path, path, t)
	}
	rows := []*row{
		show(usual, quick), show(large, quick),
		s.list(small, 10, quick), s.list(usual, 10, quick), s.list(large, 10, quick),
		s.list(usual, 100, target{}), s.list(large, 100, target{}),
		s.list(usual, 1000, target{}), s.list(large, 1000, target{}),
	}
	// The same page of a small database and of a large one, side by side.
	page := s.list(large, 100, target{atMost: 1.2})
	page.name = fmt.Sprintf("page of 100: of %d beside 1000", s.most)
	page.yardServer, page.yard = usual.api, page.request
	deep := s.get(large, fmt.Sprintf("page of 100 behind %d", s.most/2), "/v1/clusters?limit=100&marker="+large.middle, fmt.Sprintf("/clusters?limit=100&after=%d", large.id), target{})
	rows = append(rows, page, deep, show(usual, target{}).cold(), s.list(usual, 10, target{}).cold())
	return append(rows, s.changes(usual)...)
}

// changes are the rows of requests that write.
func (s *site) changes(w *world) []*row {
	var count atomic.Int64
	change := func(name, method, path, yard string, body func() string) *row {
		r := s.get(w, name, path, yard, target{})
		r.request.method, r.request.body = method, body
		r.yard.method, r.yard.body = "POST", body
		return r
	}
	csr := signingRequest()
	return []*row{
		change("create", "POST", "/v1/clusters", "/rows", func() string {
			return fmt.Sprintf(`{"name": "made-%d", "cluster_template_id": "bench", "node_count": 2}`, count.Add(1))
		}),
		change("patch", "PATCH", "/v1/clusters/"+w.middle, "/rows", func() string {
			return fmt.Sprintf(`[{"op": "replace", "path": "/health_status", "value": %q}]`, []string{"HEALTHY", "UNHEALTHY"}[count.Add(1)%2])
		}),
		change("sign", "POST", "/v1/certificates", "/sign", func() string {
			body, _ := json.Marshal(map[string]string{"cluster_uuid": w.middle, "csr": csr})
			return string(body)
		}),
	}
}

// signingRequest is what a user sends for a certificate.
func signingRequest() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // there is no randomness
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	}, key)
	if err != nil {
		panic(err) // it is well formed
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// manyRequests asks a process very often and looks what that leaves behind.
func (s *site) manyRequests(ctx context.Context) error {
	w := s.worlds[1000]
	api := w.api
	goroutines, err := api.goroutines(ctx)
	if err != nil {
		return err
	}
	before, _, err := api.memory()
	if err != nil {
		return err
	}
	files, err := api.files()
	if err != nil {
		return err
	}
	c, err := connect(ctx, api.address, s.connections)
	if err != nil {
		return err
	}
	what := s.list(w, 10, target{}).request
	loaded, err := c.load(ctx, what, 0, s.requests)
	c.close()
	if err != nil {
		return err
	}
	left, err := s.settled(ctx, api, goroutines)
	if err != nil {
		return err
	}
	filesLeft, err := api.files()
	if err != nil {
		return err
	}
	now, most, err := api.memory()
	if err != nil {
		return err
	}
	verdict := "meets"
	if most >= 80 {
		verdict = "MISSES"
	}
	fmt.Printf("\nafter %d more requests in %.0f s: %.0f MB in memory, %.0f at most, %.0f before (%s 80 MB)\n", s.requests, loaded.elapsed.Seconds(), now, most, before, verdict)
	fmt.Printf("goroutines %d, before %d; open files and connections %d, before %d (the database's pool keeps up to 16)\n", left, goroutines, filesLeft, files)
	return nil
}

// settled waits until the goroutines of ended connections are gone, or for ten
// seconds, and counts those that are left.
func (s *site) settled(ctx context.Context, api *server, before int) (int, error) {
	for range 100 {
		n, err := api.goroutines(ctx)
		if err != nil || n <= before {
			return n, err
		}
		if err := pause(ctx); err != nil {
			return n, err
		}
	}
	return api.goroutines(ctx)
}

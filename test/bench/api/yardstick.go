// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	_ "net/http/pprof" // tells how much was allocated
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
)

// The environment of the yardstick's process, which is this program again.
const (
	yardstickAt       = "KEELSON_BENCH_YARDSTICK" // address to listen on
	yardstickKeystone = "KEELSON_BENCH_KEYSTONE"  // of Keystone, for /cold
	yardstickToken    = "KEELSON_BENCH_TOKEN"     // of the service user there
	yardstickDSN      = "KEELSON_BENCH_DSN"       // of the database of size N, with N appended
)

// yardstick is the least that a service in Go can do that answers the same
// from a database: no tokens, no policy, no log, no metrics, no versions.
//
//	GET  /SIZE/clusters?limit=N&after=ID   one indexed query, JSON of N clusters
//	GET  /SIZE/clusters/UUID               one indexed query, JSON of a cluster
//	GET  /SIZE/cold/...                    the same after asking Keystone about the token
//	POST /SIZE/rest                        what answers hold beside the row of the cluster
//	POST /SIZE/rows                        one transaction with one INSERT
//	POST /SIZE/sign                        one query, one certificate
type yardstick struct {
	db      *sql.DB
	cluster v1.Cluster // the rest of the answer: what the one query does not read
	key     *ecdsa.PrivateKey
}

func serveYardstick(address string) error {
	for _, size := range sizes(1 << 30) {
		dsn := os.Getenv(yardstickDSN + strconv.Itoa(size))
		if dsn == "" {
			continue
		}
		db, err := sql.Open("mysql", dsn)
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(16) // as Keelson
		db.SetMaxIdleConns(16)
		y := &yardstick{db: db}
		if y.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		prefix := fmt.Sprintf("/%d", size)
		for _, at := range []string{prefix, prefix + "/cold"} {
			handle := func(pattern string, answer func(r *http.Request) (any, error)) {
				http.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
					if at != prefix {
						if err := askKeystone(r); err != nil {
							http.Error(w, err.Error(), http.StatusBadGateway)
							return
						}
					}
					body, err := answer(r)
					if err != nil {
						http.Error(w, err.Error(), http.StatusInternalServerError)
						return
					}
					w.Header().Set("Content-Type", "application/json")
					encoder := json.NewEncoder(w)
					encoder.SetEscapeHTML(false)
					_ = encoder.Encode(body)
				})
			}
			handle("GET "+at+"/clusters", y.list)
			handle("GET "+at+"/clusters/{uuid}", y.show)
			handle("POST "+at+"/rest", y.rest)
			handle("POST "+at+"/rows", y.insert)
			handle("POST "+at+"/sign", y.sign)
		}
	}
	return http.ListenAndServe(address, nil)
}

// rest takes what the list's next rows and the details are to hold beside what
// is in the table of clusters.
func (y *yardstick) rest(r *http.Request) (any, error) {
	return v1.UUID{}, json.NewDecoder(r.Body).Decode(&y.cluster)
}

func askKeystone(r *http.Request) error {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, os.Getenv(yardstickKeystone)+"/auth/tokens?nocatalog", nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Auth-Token", os.Getenv(yardstickToken))
	request.Header.Set("X-Subject-Token", r.Header.Get("X-Auth-Token"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	var token any
	return json.NewDecoder(answer.Body).Decode(&token)
}

// columns of the one query, in the order in which they are scanned.
const columns = "id, uuid, name, cluster_template_id, keypair, docker_volume_size, labels, flavor_id, master_flavor_id, create_timeout, status, health_status, stack_id"

func (y *yardstick) scan(rows *sql.Rows, base string) (v1.ClusterSummary, error) {
	c := y.cluster.ClusterSummary
	var (
		id     int64
		labels []byte
	)
	err := rows.Scan(&id, &c.UUID, &c.Name, &c.ClusterTemplateID, &c.Keypair, &c.DockerVolumeSize, &labels, &c.FlavorID, &c.MasterFlavorID, &c.CreateTimeout, &c.Status, &c.HealthStatus, &c.StackID)
	if err != nil {
		return c, err
	}
	c.Labels = nil
	if err := json.Unmarshal(labels, &c.Labels); err != nil {
		return c, err
	}
	c.Links = []v1.Link{{Href: base + "/v1/clusters/" + c.UUID, Rel: "self"}, {Href: base + "/clusters/" + c.UUID, Rel: "bookmark"}}
	return c, nil
}

func (y *yardstick) list(r *http.Request) (any, error) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil {
		return nil, err
	}
	rows, err := y.db.QueryContext(r.Context(), "SELECT "+columns+" FROM clusters WHERE project_id = ? AND id > ? ORDER BY id LIMIT ?", y.cluster.ProjectID, r.FormValue("after"), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	base := "http://" + r.Host
	page := v1.ClusterSummaries{Clusters: make([]v1.ClusterSummary, 0, limit)}
	for rows.Next() {
		c, err := y.scan(rows, base)
		if err != nil {
			return nil, err
		}
		page.Clusters = append(page.Clusters, c)
	}
	if n := len(page.Clusters); n == limit {
		page.Next = fmt.Sprintf("%s/v1/clusters?sort_key=id&sort_dir=asc&limit=%d&marker=%s", base, limit, page.Clusters[n-1].UUID)
	}
	return page, rows.Err()
}

func (y *yardstick) show(r *http.Request) (any, error) {
	rows, err := y.db.QueryContext(r.Context(), "SELECT "+columns+" FROM clusters WHERE uuid = ?", r.PathValue("uuid"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, sql.ErrNoRows
	}
	c := y.cluster
	if c.ClusterSummary, err = y.scan(rows, "http://"+r.Host); err != nil {
		return nil, err
	}
	return c, rows.Err()
}

func (y *yardstick) insert(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	tx, err := y.db.BeginTx(r.Context(), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	id := uuid.NewString()
	if _, err := tx.ExecContext(r.Context(), "INSERT INTO yardstick (uuid, body) VALUES (?, ?)", id, string(body)); err != nil {
		return nil, err
	}
	return v1.UUID{UUID: id}, tx.Commit()
}

func (y *yardstick) sign(r *http.Request) (any, error) {
	var asked struct {
		Cluster string `json:"cluster_uuid"`
		CSR     string `json:"csr"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	var name string
	if err := y.db.QueryRowContext(r.Context(), "SELECT name FROM clusters WHERE uuid = ?", asked.Cluster).Scan(&name); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(asked.CSR))
	if block == nil {
		return nil, errors.New("the request is no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject,
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(5, 0, 0),
	}, issuer, csr.PublicKey, y.key)
	if err != nil {
		return nil, err
	}
	return v1.Certificate{
		ClusterUUID: asked.Cluster, BayUUID: asked.Cluster, CSR: asked.CSR,
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}, nil
}

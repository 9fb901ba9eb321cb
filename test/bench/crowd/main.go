// SPDX-License-Identifier: Apache-2.0

// Command crowd times many cluster creates at once: one API and two conductor
// processes on simulated hosts, with the real MariaDB and RabbitMQ of the lab.
// Beside it stands what the same MariaDB does without Keelson.
//
//	make bench-crowd
//
// The limits that keep a real cloud fair are lifted, see settings.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/test/rig"
)

// settings lift max_operations_per_project (10), max_starts_per_host (8) and
// max_clusters_per_project (20), and look at nothing else meanwhile.
const settings = "max_operations_per_project = 0\nmax_starts_per_host = 0\nhealth_polling_interval = 0\nmachine_check_interval = 0\nsweep = off\n"

func main() {
	clusters := flag.Int("clusters", 1000, "how many, of three nodes each")
	keelsond := flag.String("keelsond", "bin/keelsond", "the program")
	workers := flag.Int("workers", 16, "[conductor] workers")
	keep := flag.String("keep", "", "directory for logs that are kept")
	flag.Parse()
	if err := run(*clusters, *workers, *keelsond, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

func run(clusters, workers int, keelsond, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "keelson-crowd"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	keelsond, err := filepath.Abs(keelsond)
	if err != nil {
		return err
	}
	nodes := 3 * clusters
	hosts := nodes/100 + 1
	r, err := rig.New(ctx, rig.Options{
		Dir: dir, Keelsond: keelsond, MariaDB: os.Getenv(testenv.MariaDB), RabbitMQ: os.Getenv(testenv.RabbitMQ),
		APIs: 1, Conductors: 2, Projects: 10, Hosts: hosts, VCPUs: 2 * 110, MemoryMiB: 4096 * 110, DiskGiB: 20 * 110, Quota: clusters, Direct: true,
		Conductor: settings + fmt.Sprintf("workers = %d\n", workers),
	})
	if err != nil {
		return err
	}
	defer r.Close()
	one, eight, err := yardstick(ctx, r.SQL)
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	before, err := questions(ctx, r.SQL)
	if err != nil {
		return err
	}
	began := time.Now()
	accepted, err := ask(ctx, r, clusters)
	if err != nil {
		return err
	}
	for {
		var done, failed int
		err := r.SQL.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(status = 'CREATE_FAILED'), 0) FROM clusters WHERE status <> 'CREATE_IN_PROGRESS'").Scan(&done, &failed)
		if err != nil {
			return err
		}
		if failed > 0 {
			return fmt.Errorf("%d clusters failed", failed)
		}
		if done == clusters {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(began)
	after, err := questions(ctx, r.SQL)
	if err != nil {
		return err
	}
	var made int
	if err := r.SQL.QueryRowContext(ctx, "SELECT COUNT(*) FROM nodes WHERE state = 'ready'").Scan(&made); err != nil {
		return err
	}
	fmt.Printf("%d clusters with %d nodes in %.1f s: %.1f creates/s (accepted in %.1f s)\n", clusters, made, took.Seconds(), float64(clusters)/took.Seconds(), accepted.Seconds())
	fmt.Printf("%.0f statements and %.0f commits per create, by the server's count\n", (after[0]-before[0])/float64(clusters), (after[1]-before[1])/float64(clusters))
	fmt.Printf("yardstick: the same MariaDB alone does %.0f small transactions/s over one connection, %.0f/s over eight\n", one, eight)
	fmt.Printf("that is %.0f of those for each create\n", eight*took.Seconds()/float64(clusters))
	steps, err := r.SQL.QueryContext(ctx, "SELECT name, COUNT(*), AVG(TIMESTAMPDIFF(MICROSECOND, started_at, finished_at)) / 1000, MAX(attempts) FROM steps GROUP BY name ORDER BY MIN(id)")
	if err != nil {
		return err
	}
	defer steps.Close()
	for steps.Next() {
		var name string
		var count, attempts int
		var milliseconds float64
		if err := steps.Scan(&name, &count, &milliseconds, &attempts); err != nil {
			return err
		}
		fmt.Printf("%-16s %5d times, %6.1f ms on average, %d tries at most\n", name, count, milliseconds, attempts)
	}
	return steps.Err()
}

// ask sends all requests, sixteen at a time.
func ask(ctx context.Context, r *rig.Rig, clusters int) (time.Duration, error) {
	url := r.Of("api")[0].URL
	post := func(project int, path, body string) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewBufferString(body))
		if err != nil {
			return "", err
		}
		request.Header.Set("X-Auth-Token", r.Tokens[project])
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode >= 300 {
			err = fmt.Errorf("%s: %s %s", path, answer.Status, text)
		}
		return string(text), err
	}
	for project := range r.Tokens {
		if _, err := post(project, "/v1/clustertemplates", `{"name": "crowd", "coe": "swarm-mode", "image_id": "keelson-node"}`); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, 16)
	for range 16 {
		all.Go(func() {
			for i := int(next.Add(1)); i <= clusters; i = int(next.Add(1)) {
				if _, err := post(i%len(r.Tokens), "/v1/clusters", fmt.Sprintf(`{"name": "c%d", "cluster_template_id": "crowd", "node_count": 2, "master_count": 1}`, i)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return time.Since(began), nil
	}
}

// yardstick is how many transactions, of an update and an insert, the database
// does in a second, over one connection and over eight.
func yardstick(ctx context.Context, db *sql.DB) (one, eight float64, err error) {
	for _, statement := range []string{
		"CREATE TABLE yardstick (id INT PRIMARY KEY, n INT NOT NULL)",
		"CREATE TABLE yardstick_log (id BIGINT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(255) NOT NULL)",
		"INSERT INTO yardstick VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return 0, 0, err
		}
	}
	measure := func(connections int) (float64, error) {
		const each = 2 * time.Second
		var n atomic.Int64
		var all sync.WaitGroup
		failed := make(chan error, connections)
		for i := range connections {
			all.Go(func() {
				for began := time.Now(); time.Since(began) < each; n.Add(1) {
					if err := transaction(ctx, db, i); err != nil {
						failed <- err
						return
					}
				}
			})
		}
		all.Wait()
		select {
		case err := <-failed:
			return 0, err
		default:
			return float64(n.Load()) / each.Seconds(), nil
		}
	}
	if one, err = measure(1); err == nil {
		eight, err = measure(8)
	}
	for _, table := range []string{"yardstick", "yardstick_log"} {
		if _, e := db.ExecContext(ctx, "DROP TABLE "+table); err == nil {
			err = e
		}
	}
	return one, eight, err
}

func transaction(ctx context.Context, db *sql.DB, row int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "UPDATE yardstick SET n = n + 1 WHERE id = ?", row); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO yardstick_log (text) VALUES ('a step was begun')"); err != nil {
		return err
	}
	return tx.Commit()
}

// questions counts the server's statements and commits so far.
func questions(ctx context.Context, db *sql.DB) (counts [2]float64, err error) {
	for i, name := range []string{"Questions", "Com_commit"} {
		var was string
		if err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&was, &counts[i]); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

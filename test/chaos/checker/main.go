// SPDX-License-Identifier: Apache-2.0

// Command checker looks at a Keelson from the outside while faults rage and
// when they are over: at the database, the hosts, Ironic and the API, and at the
// ledger of what was asked and done. It prints figures, and what did not hold.
//
// It shares no code with what it checks. It ends when the ledger does.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql" // the database driver "mysql"

	"github.com/keelson/keelson/test/chaos/ledger"
)

func main() {
	var c checker
	flag.StringVar(&c.ledger, "ledger", "", "file with what was asked and done")
	dsn := flag.String("database", "", "DSN of the database, past all faults")
	flag.StringVar(&c.api, "api", "", "address of the API")
	tokens := flag.String("tokens", "", "file with a token of each project, one a line")
	flag.StringVar(&c.hosts, "hosts", "", "directory of the simulated hosts' directories")
	flag.StringVar(&c.engine, "engine", "", "directory of the pretended engine")
	flag.StringVar(&c.ironic, "ironic", "", "address of Ironic")
	flag.IntVar(&c.history.Quota, "quota", 0, "clusters that a project may have")
	flag.DurationVar(&c.history.Lease, "lease", 0, "of the conductors")
	flag.DurationVar(&c.history.Busy, "busy", 0, "that a machine with other work to do may add to two leases")
	flag.DurationVar(&c.history.Bound, "bound", time.Minute, "within which an operation must end")
	flag.Parse()
	content, err := os.ReadFile(*tokens)
	c.tokens = strings.Fields(string(content))
	if err == nil {
		c.db, err = sql.Open("mysql", *dsn)
	}
	if err == nil {
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(2)
	}
	if c.failed {
		os.Exit(1)
	}
}

type checker struct {
	ledger, api, hosts, engine, ironic string

	tokens  []string
	db      *sql.DB
	history history
	last    map[string]claim
	looks   int
	read    int64 // bytes of the ledger
	failed  bool
}

// run watches until the ledger ends, looks a last time and tells.
func (c *checker) run(ctx context.Context) error {
	c.last = make(map[string]claim)
	seen := make(map[violation]bool)
	for {
		// A database that is being restarted is looked at again.
		var s state
		looking, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := c.operations(looking, &s); err == nil {
			c.claims(&s)
			if c.looks%5 == 0 {
				if err := c.records(looking, &s); err == nil {
					for _, v := range always(&s, c.history.Quota) {
						if !seen[v] {
							seen[v] = true
							c.history.Watched = append(c.history.Watched, v)
						}
					}
				}
			}
		}
		cancel()
		c.looks++
		over, err := c.over()
		if err != nil {
			return err
		}
		if over {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	var s state
	for _, read := range []func(context.Context, *state) error{c.operations, c.records, c.outside, c.shown} {
		if err := read(ctx, &s); err != nil {
			return err
		}
	}
	c.claims(&s)
	all := final(&s, &c.history)
	c.failed = len(all) > 0
	return c.tell(os.Stdout, &s, all)
}

// over reads what is new in the ledger and tells whether it has ended.
func (c *checker) over() (bool, error) {
	file, err := os.Open(c.ledger)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if _, err := file.Seek(c.read, io.SeekStart); err != nil {
		return false, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return false, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	c.read += int64(len(whole))
	for line := range bytes.Lines(whole) {
		var e ledger.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return false, fmt.Errorf("ledger: %w", err)
		}
		c.history.Ledger = append(c.history.Ledger, e)
	}
	n := len(c.history.Ledger)
	return n > 0 && c.history.Ledger[n-1].Kind == ledger.End, nil
}

// claims notes which operations have other owners than at the last look.
func (c *checker) claims(s *state) {
	now := time.Now()
	for _, o := range s.Operations {
		is := claim{Operation: o.UUID, Owner: o.Owner, Generation: o.Generation, Ended: o.ended(), Seen: now}
		was, known := c.last[o.UUID]
		if known && was.Ended || known && was.Generation == is.Generation && was.Ended == is.Ended && was.Owner == is.Owner {
			continue
		}
		c.last[o.UUID] = is
		c.history.Claims = append(c.history.Claims, is)
	}
}

// rows reads all rows of a query.
func rows[T any](ctx context.Context, db *sql.DB, query string, fields func(*T) []any) (all []T, err error) {
	found, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var one T
		if err := found.Scan(fields(&one)...); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, found.Err()
}

func (c *checker) operations(ctx context.Context, s *state) (err error) {
	var specs [][]byte
	s.Operations, err = rows(ctx, c.db, "SELECT id, uuid, cluster_id, kind, state, request_id, owner, generation, created_at, finished_at, spec FROM operations ORDER BY id",
		func(o *operation) []any {
			specs = append(specs, nil)
			return []any{&o.ID, &o.UUID, &o.Cluster, &o.Kind, &o.State, &o.RequestID, &o.Owner, &o.Generation, &o.CreatedAt, &o.FinishedAt, &specs[len(specs)-1]}
		})
	for i := range s.Operations {
		s.Operations[i].Spec.read(specs[i])
	}
	return err
}

// records reads the hosts' machines before the records: there is a record
// before there is a machine.
func (c *checker) records(ctx context.Context, s *state) (err error) {
	if s.Machines, err = machinesIn(c.hosts); err != nil {
		return err
	}
	if s.Clusters, err = rows(ctx, c.db, "SELECT uuid, project_id, status FROM clusters",
		func(c *cluster) []any { return []any{&c.UUID, &c.Project, &c.Status} }); err != nil {
		return err
	}
	if s.Groups, err = rows(ctx, c.db, "SELECT uuid, cluster_id, status, node_count FROM node_groups",
		func(g *group) []any { return []any{&g.UUID, &g.Cluster, &g.Status, &g.Count} }); err != nil {
		return err
	}
	if s.Nodes, err = rows(ctx, c.db, "SELECT uuid, cluster_id, node_group_id, state, COALESCE(host_id, ''), COALESCE(network, ''), COALESCE(address, ''), COALESCE(slot, -1), vcpus, memory_mib, disk_gib FROM nodes",
		func(n *node) []any {
			return []any{&n.UUID, &n.Cluster, &n.Group, &n.State, &n.Host, &n.Network, &n.Address, &n.Slot, &n.VCPUs, &n.MemoryMiB, &n.DiskGiB}
		}); err != nil {
		return err
	}
	if s.Certificates, err = rows(ctx, c.db, "SELECT DISTINCT cluster_id, COALESCE(node_id, '') FROM certificates WHERE cluster_id <> ''",
		func(c *certificate) []any { return []any{&c.Cluster, &c.Node} }); err != nil {
		return err
	}
	s.Hosts, err = rows(ctx, c.db, "SELECT uuid, state, COALESCE(libvirt_uri, ''), COALESCE(ironic_node_id, ''), COALESCE(allocation_id, ''), used_vcpus, used_memory_mib, used_disk_gib, total_vcpus, total_memory_mib, total_disk_gib FROM hosts",
		func(h *host) []any {
			return []any{&h.UUID, &h.State, &h.URI, &h.Machine, &h.Allocation, &h.UsedVCPUs, &h.UsedMemoryMiB, &h.UsedDiskGiB, &h.TotalVCPUs, &h.TotalMemoryMiB, &h.TotalDiskGiB}
		})
	return err
}

func machinesIn(hosts string) (all []machine, err error) {
	files, err := filepath.Glob(filepath.Join(hosts, "*", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // removed meanwhile
		}
		var made struct{ Address string }
		if err == nil {
			err = json.Unmarshal(content, &made)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, machine{filepath.Dir(file), strings.TrimSuffix(filepath.Base(file), ".json"), made.Address})
	}
	return all, nil
}

// outside reads what the engine and Ironic know.
func (c *checker) outside(ctx context.Context, s *state) error {
	files, err := filepath.Glob(filepath.Join(c.engine, "*", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		s.Members = append(s.Members, member{filepath.Base(filepath.Dir(file)), filepath.Base(file)})
	}
	var list struct {
		Nodes []struct {
			UUID, Name string
			State      string  `json:"provision_state"`
			Instance   *string `json:"instance_uuid"`
			Allocation *string `json:"allocation_uuid"`
		}
	}
	if err := get(ctx, c.ironic+"/v1/nodes/detail", "", &list); err != nil {
		return fmt.Errorf("asking Ironic: %w", err)
	}
	for _, n := range list.Nodes {
		b := bareMetal{UUID: n.UUID, State: n.State}
		if n.Instance != nil {
			b.Instance = *n.Instance
		}
		if n.Allocation != nil {
			b.Allocation = *n.Allocation
		}
		s.Ironic = append(s.Ironic, b)
	}
	return nil
}

// shown reads what users see of their clusters.
func (c *checker) shown(ctx context.Context, s *state) error {
	s.Shown = make(map[string]string)
	for _, token := range c.tokens {
		var list struct {
			Clusters []struct{ UUID, Status string }
		}
		if err := get(ctx, c.api+"/v1/clusters", token, &list); err != nil {
			return fmt.Errorf("asking the API: %w", err)
		}
		for _, c := range list.Clusters {
			s.Shown[c.UUID] = c.Status
		}
	}
	return nil
}

func get(ctx context.Context, url, token string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("X-OpenStack-Ironic-API-Version", "1.82")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// tell prints the figures and what did not hold.
func (c *checker) tell(w io.Writer, s *state, all []violation) error {
	h := &c.history
	count := make(map[string]int)
	var first, last time.Time
	for _, e := range h.Ledger {
		if first.IsZero() {
			first = e.From
		}
		if e.Kind != ledger.End {
			last = later(last, e.From)
		}
		switch {
		case e.Kind == ledger.Fault:
			count[e.What]++
		case e.Kind == ledger.Answer && e.Asked != "":
			count[fmt.Sprintf("answer %d", e.Status)]++
		}
	}
	broken := make(map[string]int)
	for _, v := range all {
		broken[v.Rule]++
	}
	outcomes := make(map[string]int)
	retaken := 0
	for _, o := range s.Operations {
		outcomes[o.State]++
		if o.Generation > 1 {
			retaken++
		}
	}
	_, took := resumptions(h)
	slices.Sort(took)
	at := func(part float64) time.Duration {
		if len(took) == 0 {
			return 0
		}
		return took[int(part*float64(len(took)-1))].Round(time.Millisecond)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "operations: %d accepted, %d done, %d failed, %d cancelled, in %s; %d were worked on by more than one conductor\n",
		len(s.Operations), outcomes["done"], outcomes["failed"], outcomes["cancelled"], last.Sub(first).Round(time.Second), retaken)
	fmt.Fprintf(&text, "faults: %d conductors killed, %d paused, %d API processes killed; database %d, broker %d, Keystone %d times away; messages: %d dropped, %d doubled\n",
		count[ledger.KillConductor], count[ledger.Pause], count[ledger.KillAPI], count[ledger.Database], count[ledger.Broker], count[ledger.Keystone],
		count[ledger.Dropped], count[ledger.Doubled])
	fmt.Fprintf(&text, "answers to changes: %d accepted, %d times 503 with Retry-After, %d connections broken\n",
		count["answer 202"]+count["answer 204"]+count["answer 201"]+count["answer 200"], count["answer 503"], count["answer 0"])
	fmt.Fprintf(&text, "operations of killed conductors: %d; idle for %s (median), %s (most); a lease is %s\n", len(took), at(0.5), at(1), h.Lease)
	fmt.Fprintf(&text, "stuck %d, lost %d, lost updates %d, double %d, orphans %d, quota %d, wrong answers %d, late resumptions %d, wrongly shown %d, overbooked %d (%d looks)\n",
		broken[ruleStuck], broken[ruleLost], broken[ruleUpdate], broken[ruleDouble], broken[ruleOrphan], broken[ruleQuota],
		broken[ruleAnswer], broken[ruleResumption], broken[ruleShown], broken[ruleOverbooking], c.looks)
	for i, v := range all {
		if i == 50 {
			fmt.Fprintf(&text, "and %d more\n", len(all)-i)
			break
		}
		fmt.Fprintf(&text, "VIOLATION %s: %s\n", v.Rule, v.Detail)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

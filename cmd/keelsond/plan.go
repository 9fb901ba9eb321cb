// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	v1 "github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/model"
)

// dryRun is what `keelsond driver plan` is asked for.
type dryRun struct {
	template  v1.ClusterTemplate
	cluster   v1.Cluster
	groups    []v1.NodeGroup // beside the two that every cluster has
	labels    map[string]string
	operation string
	undo      bool
	// What is there before an update; negative: as much as after it.
	mastersBefore, workersBefore int
}

// planned is the answer.
type planned struct {
	Driver    string        `json:"driver"`
	Version   string        `json:"version"`
	Stub      bool          `json:"stub"`
	Operation string        `json:"operation"`
	Refused   string        `json:"refused,omitempty"` // why a stub makes no such cluster
	Nodes     []plannedNode `json:"nodes"`
	Steps     []plannedStep `json:"steps"`
}

type plannedNode struct {
	Name  string `json:"name"`
	Group string `json:"nodegroup"`
	Role  string `json:"role"`
	State string `json:"state"` // before the operation
}

type plannedStep struct {
	Number  int    `json:"number"` // from 1
	Name    string `json:"name"`
	Node    string `json:"node"`              // name; empty for the cluster as a whole
	Needs   []int  `json:"needs"`             // numbers of the steps that must be done first
	Timeout int    `json:"timeout,omitempty"` // seconds; absent: [conductor] step_timeout
}

// planOptions are the options of `keelsond driver plan` as they are given.
type planOptions struct {
	templateFile, clusterFile, format                  string
	groupFiles, labels                                 []string
	driver, coe, server, distro, network, volume, name string
	masters, workers                                   int // negative: as the cluster's file says
}

func planCommand(load loader) *cobra.Command {
	var (
		ask     dryRun
		options planOptions
	)
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the nodes and steps of a cluster, without making it",
		Long: "Show the nodes and steps that an operation on a cluster would take, and change nothing: neither database nor hosts are asked.\n\n" +
			"What the cluster is like is said with options, or with the API's own objects in files of JSON or YAML, like those that " +
			"`openstack coe cluster template show -f json` prints. Options win.",
		Example: "  keelsond driver plan --coe kubernetes --master-count 3 --node-count 2\n" +
			"  keelsond driver plan --coe swarm-mode --operation update --from-node-count 5 --node-count 3\n" +
			"  keelsond driver plan --template template.yaml --cluster cluster.json --nodegroup gpu.yaml -f json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkFormat(options.format); err != nil {
				return err
			}
			if err := ask.read(&options); err != nil {
				return err
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			registry, closeDrivers, err := openDrivers(cmd.Context(), cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeDrivers()) }()
			answer, err := ask.plan(cmd.Context(), registry)
			if err != nil {
				return err
			}
			if options.format == "json" {
				return writeJSON(cmd.OutOrStdout(), answer)
			}
			return answer.write(cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.templateFile, "template", "", "file with a cluster template as in the API")
	flags.StringVar(&options.clusterFile, "cluster", "", "file with a cluster as in the API")
	flags.StringArrayVar(&options.groupFiles, "nodegroup", nil, "file with a further node group as in the API (may be repeated)")
	flags.StringVar(&options.driver, "driver", "", "name of the driver (default: the one that serves the COE)")
	flags.StringVar(&options.coe, "coe", "", "container orchestration engine: kubernetes, swarm-mode, …")
	flags.StringVar(&options.server, "server-type", "", `"vm" or "bm" (default "vm")`)
	flags.StringVar(&options.distro, "distro", "", "os_distro of the node image")
	flags.StringVar(&options.network, "network-driver", "", "network driver (default: the driver's first)")
	flags.StringVar(&options.volume, "volume-driver", "", "volume driver")
	flags.StringArrayVar(&options.labels, "label", nil, "label of template and cluster, as key=value (may be repeated)")
	flags.StringVar(&options.name, "name", "", `name of the cluster (default "cluster")`)
	flags.IntVar(&options.masters, "master-count", -1, "masters of the cluster (default 1)")
	flags.IntVar(&options.workers, "node-count", -1, "workers of the cluster's default group (default 1)")
	flags.StringVar(&ask.operation, "operation", drivers.Create, "create, update, upgrade, rotate-ca, rebuild or delete")
	flags.IntVar(&ask.mastersBefore, "from-master-count", -1, "masters that are there before an update (default: as many as after it)")
	flags.IntVar(&ask.workersBefore, "from-node-count", 0, "workers that are there before an update")
	flags.BoolVar(&ask.undo, "undo", false, "the plan that undoes the operation when it has failed")
	flags.StringVarP(&options.format, "format", "f", "table", `"table" or "json"`)
	return cmd
}

// read puts together what is asked for: defaults, then files, then options.
func (d *dryRun) read(o *planOptions) error {
	d.template.ServerType = "vm"
	d.cluster.Name, d.cluster.MasterCount, d.cluster.NodeCount = "cluster", 1, 1
	if err := errors.Join(readObject(o.templateFile, &d.template), readObject(o.clusterFile, &d.cluster)); err != nil {
		return err
	}
	for _, file := range o.groupFiles {
		group := v1.NodeGroup{NodeGroupSummary: v1.NodeGroupSummary{Role: model.RoleWorker, NodeCount: 1}}
		if err := readObject(file, &group); err != nil {
			return err
		}
		d.groups = append(d.groups, group)
	}
	t, c := &d.template, &d.cluster
	t.COE, t.ServerType, c.Name = cmp.Or(o.coe, t.COE), cmp.Or(o.server, t.ServerType), cmp.Or(o.name, c.Name)
	for _, option := range []struct {
		given string
		text  **string
	}{{o.driver, &t.Driver}, {o.distro, &t.ClusterDistro}, {o.network, &t.NetworkDriver}, {o.volume, &t.VolumeDriver}} {
		if option.given != "" {
			*option.text = &option.given
		}
	}
	if o.masters >= 0 {
		c.MasterCount = o.masters
	}
	if o.workers >= 0 {
		c.NodeCount = o.workers
	}
	d.labels = make(map[string]string)
	for _, label := range o.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return fmt.Errorf("--label %q: it must be key=value", label)
		}
		d.labels[key] = value
	}
	if t.COE == "" {
		return errors.New("say which COE: with --coe, or with --template")
	}
	return nil
}

// readObject reads one of the API's objects from a file of JSON or YAML; an
// empty name leaves it as it is. What the API does not know is refused.
func readObject(file string, into any) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var object map[string]any
	if err := yaml.Unmarshal(text, &object); err != nil { // JSON is YAML, too
		return fmt.Errorf("%s: %w", file, err)
	}
	if labels, ok := object["labels"].(map[string]any); ok {
		for key, value := range labels {
			labels[key] = labelText(value)
		}
	}
	text, err = json.Marshal(object)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// labelText is a label's value as the API keeps it: always text.
func labelText(value any) any {
	switch value := value.(type) {
	case bool:
		return map[bool]string{true: "True", false: "False"}[value]
	case int, int64, uint64, float64:
		return fmt.Sprint(value)
	}
	return value
}

// plan checks what is asked for as the API does, and has the driver plan it.
func (d *dryRun) plan(ctx context.Context, registry *drivers.Registry) (*planned, error) {
	template := d.jobTemplate()
	driver, err := registry.For(template)
	if err != nil {
		return nil, err
	}
	info := driver.Info()
	if template.NetworkDriver == "" && len(info.NetworkDrivers) > 0 {
		template.NetworkDriver = info.NetworkDrivers[0]
	}
	answer := &planned{Driver: info.Name, Version: info.Version, Stub: info.Stub, Operation: d.operation, Nodes: []plannedNode{}, Steps: []plannedStep{}}
	if kinds := append([]string{drivers.Create, drivers.Update, drivers.Delete}, info.Operations...); !slices.Contains(kinds, d.operation) {
		return nil, fmt.Errorf("the driver %s plans no operation %q, only %s", info.Name, d.operation, strings.Join(kinds, ", "))
	}
	if err := driver.ValidateTemplate(template); err != nil {
		return nil, fmt.Errorf("the driver %s refuses the cluster template: %w", info.Name, err)
	}
	job := d.job(template)
	var unsupported *drivers.UnsupportedError
	switch err := driver.ValidateCluster(template, &job.Cluster, job.Groups); {
	case info.Stub && errors.As(err, &unsupported):
		answer.Refused = err.Error()
	case err != nil:
		return nil, fmt.Errorf("the driver %s refuses the cluster: %w", info.Name, err)
	}
	plan, err := driver.Plan(ctx, job)
	if err != nil {
		return nil, fmt.Errorf("the driver %s makes no plan: %w", info.Name, err)
	}
	if err := conductor.CheckPlan(plan); err != nil {
		return nil, fmt.Errorf("the driver %s made a plan that can not be taken: %w", info.Name, err)
	}
	answer.fill(job, plan)
	return answer, nil
}

func (d *dryRun) jobTemplate() *drivers.Template {
	t := &d.template
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, d.labels)
	return &drivers.Template{
		ID: t.UUID, Name: text(t.Name), Driver: text(t.Driver), COE: t.COE, ServerType: t.ServerType, ImageID: t.ImageID, Distro: text(t.ClusterDistro),
		NetworkDriver: text(t.NetworkDriver), VolumeDriver: text(t.VolumeDriver), DockerStorageDriver: text(t.DockerStorageDriver),
		TLSDisabled: t.TLSDisabled, MasterLBEnabled: t.MasterLBEnabled, RegistryEnabled: t.RegistryEnabled,
		InsecureRegistry: text(t.InsecureRegistry), HTTPProxy: text(t.HTTPProxy), HTTPSProxy: text(t.HTTPSProxy), NoProxy: text(t.NoProxy),
		DNSNameserver: text(t.DNSNameserver), Labels: labels,
	}
}

// job is what the conductor would tell the driver when it begins.
func (d *dryRun) job(t *drivers.Template) *drivers.Job {
	labels := maps.Clone(t.Labels)
	if d.cluster.Labels != nil {
		labels = maps.Clone(d.cluster.Labels)
		maps.Copy(labels, d.labels)
	}
	job := &drivers.Job{
		Operation: drivers.Operation{ID: madeUpID("operation"), Kind: d.operation, Undo: d.undo, MaxBatchSize: 1},
		Cluster:   drivers.Cluster{ID: madeUpID("cluster"), Name: d.cluster.Name, ProjectID: d.cluster.ProjectID, UserID: d.cluster.UserID, Labels: labels},
		Template:  *t,
		Services:  drivers.Services{Nodes: drivers.ReadOnly{}, Certificates: noCertificates{}, Records: drivers.ReadOnly{}},
	}
	groups := append([]v1.NodeGroup{
		{NodeGroupSummary: v1.NodeGroupSummary{Name: "default-master", Role: model.RoleMaster, NodeCount: d.cluster.MasterCount}},
		{NodeGroupSummary: v1.NodeGroupSummary{Name: "default-worker", Role: model.RoleWorker, NodeCount: d.cluster.NodeCount}},
	}, d.groups...)
	address := netip.MustParseAddr("198.18.0.1") // of a range that nobody uses
	for i := range groups {
		g := &groups[i]
		group := drivers.NodeGroup{ID: madeUpID("group", strconv.Itoa(i)), Name: g.Name, Role: g.Role, NodeCount: g.NodeCount, Labels: labels}
		if g.Labels != nil {
			group.Labels = g.Labels
		}
		job.Groups = append(job.Groups, group)
		before := d.before(i, g.NodeCount)
		for index := range max(before, g.NodeCount) {
			node := drivers.Node{
				Name: conductor.NodeName(d.cluster.Name, &model.NodeGroup{Name: g.Name}, index), GroupID: group.ID, Role: g.Role, Index: index, State: drivers.NodeWanted,
			}
			node.ID = madeUpID("node", group.ID, strconv.Itoa(index))
			if index < before {
				node.State, node.Host, node.Address, node.COEID = drivers.NodeReady, "host", address.String(), node.ID
				node.Stale = d.operation != drivers.Update
			}
			if index >= g.NodeCount {
				node.State = drivers.NodeLeaving
			}
			address = address.Next()
			job.Nodes = append(job.Nodes, node)
		}
	}
	return job
}

// before is how many nodes of the i-th group are there before the operation.
func (d *dryRun) before(i, count int) int {
	switch {
	case d.operation == drivers.Create:
		return 0
	case d.operation == drivers.Update && i == 0 && d.mastersBefore >= 0:
		return d.mastersBefore
	case d.operation == drivers.Update && i == 1 && d.workersBefore >= 0:
		return d.workersBefore
	}
	return count
}

// madeUpID is a uuid that is the same each time.
func madeUpID(of ...string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("keelsond driver plan "+strings.Join(of, " "))).String()
}

// noCertificates is the authority of a cluster that is not there.
type noCertificates struct{}

func (noCertificates) Authority(context.Context) ([]byte, error) { return nil, drivers.ErrReadOnly }

func (noCertificates) Node(context.Context, string, string, netip.Addr) (cert, key []byte, err error) {
	return nil, nil, drivers.ErrReadOnly
}

func (noCertificates) Client(context.Context) (cert, key []byte, err error) {
	return nil, nil, drivers.ErrReadOnly
}

func (noCertificates) Other(context.Context) (authority, cert, key []byte, err error) {
	return nil, nil, nil, drivers.ErrReadOnly
}

func (p *planned) fill(job *drivers.Job, plan []drivers.Step) {
	groups := make(map[string]string)
	for _, g := range job.Groups {
		groups[g.ID] = g.Name
	}
	names := make(map[string]string)
	for _, n := range job.Nodes {
		names[n.ID] = n.Name
		p.Nodes = append(p.Nodes, plannedNode{n.Name, groups[n.GroupID], n.Role, string(n.State)})
	}
	numbers := make(map[drivers.StepKey]int)
	for i, step := range plan {
		numbers[step.Key()] = i + 1
	}
	for i, step := range plan {
		s := plannedStep{Number: i + 1, Name: step.Name, Node: names[step.NodeID], Needs: []int{}, Timeout: int(step.Timeout.Seconds())}
		for _, need := range step.Needs {
			s.Needs = append(s.Needs, numbers[need])
		}
		slices.Sort(s.Needs)
		p.Steps = append(p.Steps, s)
	}
}

// write prints the plan for people.
func (p *planned) write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	var err error
	line := func(format string, args ...any) {
		_, e := fmt.Fprintf(w, format+"\n", args...)
		err = errors.Join(err, e)
	}
	line("%s by the driver %s %s: %d nodes, %d steps", p.Operation, p.Driver, p.Version, len(p.Nodes), len(p.Steps))
	if p.Refused != "" {
		line("The API refuses such a cluster: %s", p.Refused)
	}
	line("")
	line("NODE\tNODE GROUP\tROLE\tSTATE")
	for _, n := range p.Nodes {
		line("%s\t%s\t%s\t%s", n.Name, n.Group, n.Role, n.State)
	}
	line("")
	line("#\tSTEP\tNODE\tAFTER")
	for _, s := range p.Steps {
		var needs []string
		for _, n := range s.Needs {
			needs = append(needs, strconv.Itoa(n))
		}
		line("%d\t%s\t%s\t%s", s.Number, s.Name, cmp.Or(s.Node, "-"), cmp.Or(strings.Join(needs, ", "), "-"))
	}
	return errors.Join(err, w.Flush())
}

func checkFormat(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf(`--format %q: it must be "table" or "json"`, format)
	}
	return nil
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

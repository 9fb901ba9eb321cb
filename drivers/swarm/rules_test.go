// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/swarm"

	"github.com/keelson/keelson/drivers"
)

func TestTemplates_4_4_Swarm(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*drivers.Template)
		refused string // word of the refusal, empty: accepted
	}{
		"plain":              {func(*drivers.Template) {}, ""},
		"classic name":       {func(t *drivers.Template) { t.COE = "swarm" }, ""},
		"vm":                 {func(t *drivers.Template) { t.ServerType = "vm" }, ""},
		"docker network":     {func(t *drivers.Template) { t.NetworkDriver = "docker" }, ""},
		"rexray":             {func(t *drivers.Template) { t.VolumeDriver = "rexray" }, ""},
		"overlay2":           {func(t *drivers.Template) { t.DockerStorageDriver = "overlay2" }, ""},
		"name servers":       {func(t *drivers.Template) { t.DNSNameserver = "192.0.2.1, 192.0.2.2" }, ""},
		"strategies":         {func(t *drivers.Template) { t.Labels = map[string]string{"swarm_strategy": " spread binpack  random"} }, ""},
		"another's COE":      {func(t *drivers.Template) { t.COE = "kubernetes" }, "coe"},
		"other server":       {func(t *drivers.Template) { t.ServerType = "lxc" }, "server_type"},
		"flannel":            {func(t *drivers.Template) { t.NetworkDriver = "flannel" }, "network_driver"},
		"cinder":             {func(t *drivers.Template) { t.VolumeDriver = "cinder" }, "volume_driver"},
		"devicemapper":       {func(t *drivers.Template) { t.DockerStorageDriver = "devicemapper" }, "docker_storage_driver"},
		"without TLS":        {func(t *drivers.Template) { t.TLSDisabled = true }, "tls_disabled"},
		"registry":           {func(t *drivers.Template) { t.RegistryEnabled = true }, "registry_enabled"},
		"name for server":    {func(t *drivers.Template) { t.DNSNameserver = "dns.example.org" }, "dns_nameserver"},
		"IPv6 name server":   {func(t *drivers.Template) { t.DNSNameserver = "2001:db8::1" }, "dns_nameserver"},
		"a strategy unknown": {func(t *drivers.Template) { t.Labels = map[string]string{"swarm_strategy": "spread fastest"} }, "swarm_strategy"},
	} {
		tmpl := drivers.Template{COE: "swarm-mode", ServerType: "bm"}
		tt.change(&tmpl)
		err := New(Options{}).ValidateTemplate(&tmpl)
		if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManagersAreOdd(t *testing.T) {
	tmpl := &drivers.Template{COE: "swarm-mode", ServerType: "bm"}
	for managers := -1; managers <= 9; managers++ {
		groups := []drivers.NodeGroup{{Role: "master", NodeCount: managers}, {Role: "worker", NodeCount: 2}}
		err := New(Options{}).ValidateCluster(tmpl, &drivers.Cluster{}, groups)
		if good := slices.Contains([]int{1, 3, 5, 7}, managers); good != (err == nil) {
			t.Errorf("%d managers: %v", managers, err)
		}
	}
	bad := &drivers.Cluster{Labels: map[string]string{"swarm_strategy": "x"}}
	if err := New(Options{}).ValidateCluster(tmpl, bad, []drivers.NodeGroup{{Role: "master", NodeCount: 1}}); err == nil {
		t.Error("a cluster's labels are not checked")
	}
}

// nodes returns the nodes of the letters: M and W are ready masters and
// workers, m and w are wanted, x and y leaving masters and workers.
func nodes(letters string) []drivers.Node {
	var all []drivers.Node
	for i, letter := range letters {
		n := drivers.Node{ID: fmt.Sprintf("%c%d", letter, i), Name: fmt.Sprintf("%c%d", letter, i), Index: i, State: drivers.NodeWanted, Role: "worker"}
		switch letter {
		case 'M', 'W':
			n.State = drivers.NodeReady
		case 'x', 'y':
			n.State = drivers.NodeLeaving
		}
		if strings.ContainsRune("Mmx", letter) {
			n.Role = "master"
		}
		all = append(all, n)
	}
	return all
}

func TestPlans(t *testing.T) {
	for _, tt := range []struct {
		kind  string
		undo  bool
		nodes string
		want  string // steps that are not about making nodes: "name node<needs"
	}{
		{drivers.Create, false, "mmmww", `
			swarm.init m0 < node.start m0
			swarm.join m1 < node.start m1, swarm.init m0
			swarm.join m2 < node.start m2, swarm.join m1
			swarm.join w3 < node.start w3, swarm.init m0
			swarm.join w4 < node.start w4, swarm.init m0
			swarm.ready < certificates, swarm.init m0, swarm.join m1, swarm.join m2, swarm.join w3, swarm.join w4
			cluster.record < swarm.ready`},
		{drivers.Create, false, "MW", `
			swarm.init M0 < node.start M0
			swarm.join W1 < node.start W1, swarm.init M0
			swarm.ready < certificates, swarm.init M0, swarm.join W1
			cluster.record < swarm.ready`},
		{drivers.Create, true, "Mmw", `
			node.delete M0
			node.delete m1
			node.delete w2`},
		{drivers.Update, false, "MWwy", `
			swarm.join w2 < node.start w2
			swarm.ready < certificates, swarm.join w2
			swarm.drain y3 < swarm.ready
			swarm.remove y3 < swarm.drain y3
			node.delete y3 < swarm.remove y3
			cluster.record < swarm.ready, node.delete y3`},
		{drivers.Update, false, "Mmm", `
			swarm.join m1 < node.start m1
			swarm.join m2 < node.start m2, swarm.join m1
			swarm.ready < certificates, swarm.join m1, swarm.join m2
			cluster.record < swarm.ready`},
		{drivers.Update, false, "MW", `
			swarm.ready < certificates
			cluster.record < swarm.ready`},
		{drivers.Update, true, "MWwy", `
			swarm.remove w2
			node.delete w2 < swarm.remove w2
			swarm.restore y3`},
		{drivers.Update, true, "mw", `
			node.delete m0
			node.delete w1`},
		{drivers.Delete, false, "MmWwxy", `
			node.delete M0
			node.delete m1
			node.delete W2
			node.delete w3
			node.delete x4
			node.delete y5`},
	} {
		t.Run(fmt.Sprintf("%s %s undo=%v", tt.kind, tt.nodes, tt.undo), func(t *testing.T) {
			job := &drivers.Job{Operation: drivers.Operation{Kind: tt.kind, Undo: tt.undo}, Nodes: nodes(tt.nodes)}
			plan, err := New(Options{}).Plan(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, step := range plan {
				switch step.Name {
				case stepCertificates, stepPlace, stepStart:
					continue
				}
				line := strings.TrimSpace(step.Name + " " + step.NodeID)
				var needs []string
				for _, k := range step.Needs {
					needs = append(needs, strings.TrimSpace(k.Name+" "+k.NodeID))
				}
				if len(needs) > 0 {
					line += " < " + strings.Join(needs, ", ")
				}
				got = append(got, line)
			}
			var want []string
			for line := range strings.Lines(tt.want) {
				if line = strings.TrimSpace(line); line != "" {
					want = append(want, line)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := New(Options{}).Plan(t.Context(), &drivers.Job{Operation: drivers.Operation{Kind: "rotate"}}); err == nil {
		t.Error("an unknown operation has a plan")
	}
}

func TestDaemonConfig(t *testing.T) {
	text, err := daemonConfig(
		&drivers.Template{DNSNameserver: "192.0.2.53", InsecureRegistry: "registry.example.org:5000, 192.0.2.9"},
		&drivers.Node{ID: "n1", Host: "3f", Zone: "east"},
	)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"hosts":                 []any{"unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"},
		"tlsverify":             true,
		"tlscacert":             "/etc/docker/ca.pem",
		"tlscert":               "/etc/docker/server-cert.pem",
		"tlskey":                "/etc/docker/server-key.pem",
		"storage-driver":        "overlay2",
		"log-driver":            "json-file",
		"log-opts":              map[string]any{"max-size": "10m", "max-file": "3"},
		"default-address-pools": []any{map[string]any{"base": "172.17.0.0/16", "size": 24.0}, map[string]any{"base": "172.18.0.0/16", "size": 24.0}},
		"labels":                []any{"keelson.node=n1", "keelson.host=3f", "keelson.zone=east"},
		"dns":                   []any{"192.0.2.53"},
		"insecure-registries":   []any{"registry.example.org:5000", "192.0.2.9"},
		"shutdown-timeout":      10.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("daemon.json (-want +got):\n%s", diff)
	}
}

func TestRefusalsAreTheOperatorsUnlessTheClusterSays(t *testing.T) {
	for _, tt := range []struct {
		operator bool
		label    string
		want     bool
	}{
		{true, "", true},
		{false, "", false},
		{true, "False", false},
		{false, "true", true},
	} {
		labels := map[string]string{}
		if tt.label != "" {
			labels["docker_refusals"] = tt.label
		}
		if got := New(Options{Refusals: tt.operator}).refuses(labels); got != tt.want {
			t.Errorf("operator %v, label %q: %v", tt.operator, tt.label, got)
		}
	}
	if err := validateLabels(map[string]string{"docker_refusals": "maybe"}); err == nil {
		t.Error("docker_refusals=maybe is taken")
	}
}

func TestProxyValuesAreQuotedForTheShell(t *testing.T) {
	got := string(proxyEnvironment(&drivers.Template{HTTPProxy: "http://proxy:3128", NoProxy: "a'b; rm -rf /"}))
	want := "export HTTP_PROXY='http://proxy:3128'\nexport NO_PROXY='a'\\''b; rm -rf /'\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if env := proxyEnvironment(&drivers.Template{}); env != nil {
		t.Errorf("without a proxy there is %q", env)
	}
}

func TestOverlayPoolAvoidsTheNodes(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7":  "10.128.0.0/9",
		"10.42.0.2":  "10.128.0.0/9",
		"10.197.0.2": "10.0.0.0/9",
	} {
		if got := overlayPool(address)[0].String(); got != want {
			t.Errorf("nodes at %s: overlay networks in %s, want %s", address, got, want)
		}
	}
}

// entry returns a member as the swarm lists it.
func entry(id, nodeID string, state swarm.NodeState, manager swarm.Reachability) swarm.Node {
	m := swarm.Node{ID: id, Status: swarm.NodeStatus{State: state}, Spec: swarm.NodeSpec{Role: swarm.NodeRoleWorker}}
	if nodeID != "" {
		m.Description.Engine.Labels = map[string]string{labelNode: nodeID}
	}
	if manager != "" {
		m.Spec.Role = swarm.NodeRoleManager
		m.ManagerStatus = &swarm.ManagerStatus{Reachability: manager}
	}
	return m
}

func TestTheEntryThatIsReadyCounts(t *testing.T) {
	known := members{
		entry("old", "n1", swarm.NodeStateDown, ""),
		entry("new", "n1", swarm.NodeStateReady, ""),
		entry("older", "n1", swarm.NodeStateDown, ""),
		entry("other", "n2", swarm.NodeStateReady, ""),
	}
	if m := known.find(&drivers.Node{ID: "n1"}); m == nil || m.ID != "new" {
		t.Errorf("found %+v", m)
	}
	if m := known.find(&drivers.Node{ID: "n3"}); m != nil {
		t.Errorf("found %+v", m)
	}
	if got := len(known.entries(&drivers.Node{ID: "n1"})); got != 3 {
		t.Errorf("%d entries are to be removed, want 3", got)
	}
}

func TestANodeThatCrashedWhileJoiningIsFoundByItsAddress(t *testing.T) {
	nameless, other := entry("x", "", swarm.NodeStateUnknown, ""), entry("other", "n2", swarm.NodeStateDown, "")
	nameless.Status.Addr, other.Status.Addr = "192.0.2.7", "192.0.2.7"
	known := members{nameless, other}
	if got := known.entries(&drivers.Node{ID: "n1", Address: "192.0.2.7"}); len(got) != 1 || got[0].ID != "x" {
		t.Errorf("found %v", got)
	}
	if got := known.entries(&drivers.Node{ID: "n1", Address: "192.0.2.8"}); len(got) != 0 {
		t.Errorf("found %v", got)
	}
}

// The managers of a swarm, one letter each: + lives, - is dead, > lives and is
// being demoted. The first of the leaving ones asks to be demoted.
func TestManagersGoWithoutLosingTheMajority(t *testing.T) {
	for _, tt := range []struct {
		managers, going string // positions of the leaving ones
		want            string // positions of those demoted now
		refused         bool
	}{
		{"+++", "2", "2", false},
		{"+++", "12", "1", false},
		{"++>", "12", "", false},  // the swarm is at work on another
		{"+->", "12", "1", false}, // that may never end: the dead one goes
		{"+-+", "12", "1", false}, // dead first
		{"+-+", "21", "1", false},
		{"+-+", "1", "1", false}, // the dead one itself
		{"+-+", "2", "", true},   // one of two is no majority
		{"+--", "12", "12", false},
		{"+++-+", "4", "4", false}, // three of four are
		{"++--+", "4", "", true},
		{"++", "1", "1", false},
	} {
		var known members
		answers := map[string]bool{}
		for i, letter := range tt.managers {
			id := fmt.Sprint(i)
			m := entry(id, id, swarm.NodeStateReady, swarm.ReachabilityReachable)
			if letter == '>' {
				m.Spec.Role = swarm.NodeRoleWorker
			}
			answers[id] = letter != '-'
			known = append(known, m)
		}
		var going []*drivers.Node
		for _, id := range tt.going {
			going = append(going, &drivers.Node{ID: string(id)})
		}
		now, why, err := demotions(known, going, known.find(going[0]), answers)
		got := ""
		for _, m := range now {
			got += m.ID
		}
		if got != tt.want || (err != nil) != tt.refused {
			t.Errorf("%s, leaving %s: demoted %q (%s, %v), want %q, refused %v", tt.managers, tt.going, got, why, err, tt.want, tt.refused)
		}
	}
}

func TestDrainIsTimedByTheManagersClock(t *testing.T) {
	changed := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	m := &swarm.Node{Meta: swarm.Meta{UpdatedAt: changed}}
	if got := drainedFor(m, "2027-03-01T12:00:31.5Z"); got != 31500*time.Millisecond {
		t.Errorf("got %s", got)
	}
	if got := drainedFor(m, "no time"); got != 0 {
		t.Errorf("got %s", got)
	}
}

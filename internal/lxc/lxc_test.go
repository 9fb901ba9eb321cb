// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/internal/testenv"
)

func goodSpec() Spec {
	return Spec{
		UUID:      "6f1c8a52-9d3e-4b77-8a1f-2c5d7e9b0a34",
		Name:      "web-master-0",
		Image:     "keelson-node",
		VCPUs:     2,
		MemoryMiB: 4096,
		DiskGiB:   20,
		Cluster:   "0d4b5a3e-7a51-4f0c-9c5e-3f1f0a1b2c3d",
		Limits:    Limits{BandwidthMbit: 1000, IOMiB: 256, IOOperations: 4000},
		IDBase:    1000000,
		Bridge:    "keelson0",
		MAC:       "52:54:00:12:34:56",
		Address:   netip.MustParsePrefix("10.42.0.7/16"),
		Gateway:   netip.MustParseAddr("10.42.0.1"),
		Files:     []File{{Path: "/etc/docker/daemon.json", Mode: 0o644, Content: []byte("{}")}},
	}
}

func TestValidate(t *testing.T) {
	good := goodSpec()
	if err := good.Validate(); err != nil {
		t.Errorf("a good specification: %v", err)
	}
	for _, c := range []struct {
		name  string
		spoil func(*Spec)
		want  string // in the error
	}{
		{"uuid of another shape", func(s *Spec) { s.UUID = "../../etc/passwd" }, "is not a uuid"},
		{"uuid in upper case", func(s *Spec) { s.UUID = strings.ToUpper(s.UUID) }, "is not a uuid"},
		{"name with a dot", func(s *Spec) { s.Name = "a.b" }, "is not a host name"},
		{"name too long", func(s *Spec) { s.Name = strings.Repeat("a", 64) }, "is not a host name"},
		{"image with a slash", func(s *Spec) { s.Image = "../root" }, "is not an image name"},
		{"revision of two lines", func(s *Spec) { s.Revision = "a\nb" }, "is not a revision"},
		{"revision too long", func(s *Spec) { s.Revision = strings.Repeat("a", 256) }, "is not a revision"},
		{"hidden image", func(s *Spec) { s.Image = ".build" }, "is not an image name"},
		{"no cpu", func(s *Spec) { s.VCPUs = 0 }, "vcpus"},
		{"no memory", func(s *Spec) { s.MemoryMiB = 0 }, "memory"},
		{"no disk", func(s *Spec) { s.DiskGiB = 0 }, "disk"},
		{"root of the host as root of the node", func(s *Spec) { s.IDBase = 0 }, "id base"},
		{"ids beyond the last", func(s *Spec) { s.IDBase = 1<<32 - 1 - IDCount }, "id base"},
		{"bridge with an option", func(s *Spec) { s.Bridge = "br0 type dummy" }, "bridge"},
		{"no cluster", func(s *Spec) { s.Cluster = "" }, "cluster"},
		{"rule as cluster", func(s *Spec) { s.Cluster = "x { type ipv4_addr; }" }, "cluster"},
		{"bandwidth below zero", func(s *Spec) { s.Limits.BandwidthMbit = -1 }, "bandwidth"},
		{"disk traffic below zero", func(s *Spec) { s.Limits.IOMiB = -1 }, "disk traffic"},
		{"disk operations below zero", func(s *Spec) { s.Limits.IOOperations = -1 }, "disk operations"},
		{"mac", func(s *Spec) { s.MAC = "52:54:00:12:34" }, "MAC"},
		{"mac of a group", func(s *Spec) { s.MAC = "53:54:00:12:34:56" }, "MAC"},
		{"no address", func(s *Spec) { s.Address = netip.Prefix{} }, "no IPv4 address"},
		{"address of IPv6", func(s *Spec) { s.Address = netip.MustParsePrefix("2001:db8::7/64") }, "no IPv4 address"},
		{"gateway elsewhere", func(s *Spec) { s.Gateway = netip.MustParseAddr("192.0.2.1") }, "gateway"},
		{"relative file", func(s *Spec) { s.Files[0].Path = "etc/passwd" }, "not absolute and clean"},
		{"file that climbs", func(s *Spec) { s.Files[0].Path = "/etc/../../x" }, "not absolute and clean"},
		{"setuid file", func(s *Spec) { s.Files[0].Mode = 0o4755 }, "permission bits"},
		{"file twice", func(s *Spec) { s.Files = append(s.Files, s.Files[0]) }, "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := goodSpec()
			c.spoil(&spec)
			if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestDomainHoldsNoSecret(t *testing.T) {
	spec := goodSpec()
	spec.Files = append(spec.Files, File{Path: "/etc/docker/server-key.pem", Mode: 0o600, Content: []byte("SECRET")})
	document, err := domainXML(&spec, "/var/lib/keelson")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(document, "SECRET") || strings.Contains(document, "server-key") {
		t.Errorf("files show in the domain:\n%s", document)
	}
}

func TestArchiveIsTheSameForTheSameFiles(t *testing.T) {
	spec := goodSpec()
	files := rootFiles(&spec)
	first, err := archive(files)
	if err != nil {
		t.Fatal(err)
	}
	second, err := archive([]File{files[3], files[1], files[0], files[2]})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the order of the files shows")
	}
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(first)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = string(content)
	}
	want := map[string]string{
		"etc/docker/daemon.json": "{}",
		"etc/hostname":           "web-master-0\n",
		"etc/hosts":              "127.0.0.1 localhost\n::1 localhost\n10.42.0.7 web-master-0\n",
		"etc/resolv.conf":        "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

func TestGivenFilesComeFirst(t *testing.T) {
	spec := goodSpec()
	spec.Files = []File{{Path: "/etc/resolv.conf", Mode: 0o644, Content: []byte("mine")}}
	spec.Nameservers = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	var found []string
	for _, f := range rootFiles(&spec) {
		if f.Path == "/etc/resolv.conf" {
			found = append(found, string(f.Content))
		}
	}
	if diff := cmp.Diff([]string{"mine"}, found); diff != "" {
		t.Errorf("resolv.conf differs (-want +got):\n%s", diff)
	}
}

func FuzzUUIDOf(f *testing.F) {
	uuid := goodSpec().UUID
	for _, name := range []string{domainName(uuid), diskVolume(uuid), fileVolume(uuid), uuid, "other", "keelson-", ".img"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if uuid, ours := uuidOf(name); ours && (!uuidPattern.MatchString(uuid) || !strings.Contains(name, uuid)) {
			t.Errorf("%q is ours with uuid %q", name, uuid)
		}
	})
}

// askHook runs a script in which the host's lxc hook is the module hook, and
// returns what it prints.
func askHook(t *testing.T, script, stdin string, args ...string) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if _, err := exec.LookPath(python); err != nil {
		testenv.Lacks(t, "needs /usr/bin/python3, as a host does: apt-get install python3-minimal")
	}
	const load = `
import importlib.machinery, importlib.util, sys, xml.etree.ElementTree as ElementTree
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("hook", "../../templates/host/lxc-hook")
hook = importlib.util.module_from_spec(importlib.util.spec_from_loader("hook", loader))
loader.exec_module(hook)
`
	ask := exec.CommandContext(t.Context(), python, append([]string{"-c", load + script}, args...)...)
	ask.Stdin = strings.NewReader(stdin)
	out, err := ask.CombinedOutput()
	if err != nil {
		t.Fatalf("the hook: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// readByHook gives a domain to the hook's own reader and returns its refusal.
func readByHook(t *testing.T, document string) (refusal string) {
	t.Helper()
	return askHook(t, `
domain = ElementTree.fromstring(sys.stdin.buffer.read())
element = domain.find("metadata/{%s}node" % hook.NAMESPACE)
try:
    hook.Node(domain, element, "/var/lib/keelson")
except hook.Refused as refused:
    print(refused)
`, document)
}

// The hook runs as root and believes nothing that it can check.
func TestHookRefusesDomainsThatAreNotAsTheyShouldBe(t *testing.T) {
	spec := goodSpec()
	good, err := domainXML(&spec, "/var/lib/keelson")
	if err != nil {
		t.Fatal(err)
	}
	if refusal := readByHook(t, good); refusal != "" {
		t.Fatalf("the hook refuses what Ensure defines: %s\n%s", refusal, good)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"other uuid", "<uuid>6f1c", "<uuid>0f1c", "is not named"},
		{"path as uuid", "<uuid>6f1c8a52", "<uuid>../../..", "is not a uuid"},
		{"path as image", "<image>keelson-node<", "<image>../../root<", "is not an image name"},
		{"revision of two lines", "<revision></revision>", "<revision>a\nb</revision>", "is not a revision"},
		{"no image", "<image>keelson-node</image>", "", "is not an image name"},
		{"disk that is no number", "<disk>20<", "<disk>20G<", "not a number"},
		{"no disk limit", "<disk>20</disk>", "", "not a number"},
		{"disk of nothing", "<disk>20<", "<disk>0<", "not a number"},
		{"no process limit", "<pids>8192</pids>", "", "not a number"},
		{"root is root of the host", `<uid start="0" target="1000000"`, `<uid start="0" target="0"`, "is not allowed"},
		{"all ids of the host", `target="1000000" count="65536"`, `target="1000000" count="4293967295"`, "is not allowed"},
		{"no users of its own", `<uid start="0" target="1000000" count="65536"></uid>`, "", "one uid range"},
		{"other groups than users", `<gid start="0" target="1000000"`, `<gid start="0" target="2000000"`, "different ranges"},
		{"no cluster", "<cluster>0d4b5a3e-7a51-4f0c-9c5e-3f1f0a1b2c3d</cluster>", "", "cluster"},
		{"rule as cluster", "<cluster>0d4b5a3e", "<cluster>0 { }", "cluster"},
		{"no bandwidth", "<bandwidth>1000</bandwidth>", "", "not a number"},
		{"bandwidth with a unit", "<bandwidth>1000<", "<bandwidth>1g<", "not a number"},
		{"no disk traffic", "<io-rate>256</io-rate>", "", "not a number"},
		{"no disk operations", "<io-operations>4000</io-operations>", "", "not a number"},
		{"port of another node", `<target dev="kn-2c5d7e9b0a34">`, `<target dev="eth0">`, "is not named kn-"},
		{"mac of a group", `<mac address="52:`, `<mac address="53:`, "MAC address"},
		{"rule as mac", `<mac address="52:54:00:12:34:56"`, `<mac address="52:54:00:12:34:56 accept"`, "MAC address"},
		{"rule as address", `<ip address="10.42.0.7"`, `<ip address="10.42.0.7 accept"`, "not an IPv4 address"},
		{"address out of range", `<ip address="10.42.0.7"`, `<ip address="10.42.0.256"`, "not an IPv4 address"},
		{"root elsewhere", `dir="/var/lib/keelson/roots/`, `dir="/`, "root is not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(good, c.old, c.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the domain:\n%s", c.old, good)
			}
			if refusal := readByHook(t, bad); !strings.Contains(refusal, c.want) {
				t.Errorf("the hook says %q, not %q", refusal, c.want)
			}
		})
	}
}

// What the disk says its root was made from, against what the domain wants.
func TestHookKeepsARootUntilSomethingElseIsWanted(t *testing.T) {
	const keptTree = `
import types
disk, images, revision = sys.argv[1:4]
node = types.SimpleNamespace(image="keelson-node", revision=None if revision == "none" else revision, files=disk + "/files")
try:
    print(hook.kept_tree(node, disk, images))
except hook.Refused as refused:
    print("refused:", refused)
`
	for _, c := range []struct {
		name     string
		ready    string // "-": no such file
		revision string // of the domain; "none": from before there were any
		files    bool   // for a new root
		want     string // the tree, None to make a root, or the refusal
	}{
		{"first start", "-", "1", true, "None"},
		{"what it was made from", "tree-a\nkeelson-node\n1\n", "1", false, "tree-a"},
		{"files of a rebuild that did not get further", "tree-a\nkeelson-node\n1\n", "1", true, "tree-a"},
		{"no revision", "tree-a\nkeelson-node\n\n", "", false, "tree-a"},
		{"no revision yet", "tree-a\nkeelson-node\n\n", "none", false, "tree-a"},
		{"other revision", "tree-a\nkeelson-node\n1\n", "2", true, "None"},
		{"a first revision", "tree-a\nkeelson-node\n\n", "1", true, "None"},
		{"other image", "tree-a\nother-node\n1\n", "1", true, "None"},
		{"old root removed", "", "1", true, "None"},
		{"tree removed from the host", "tree-b\nkeelson-node\n1\n", "1", false, "refused: image tree-b"},
		{"path instead of a tree", "../tree-a\nkeelson-node\n1\n", "1", false, "refused: image ../tree-a"},
		{"old mark, old domain", "tree-a\n", "none", false, "tree-a"},
		{"old mark, old domain, files of a rebuild", "tree-a\n", "none", true, "tree-a"},
		{"old mark, domain of a rebuild", "tree-a\n", "", true, "None"},
		{"old mark, new domain", "tree-a\n", "1", false, "tree-a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, images := t.TempDir(), t.TempDir()
			err := os.Mkdir(filepath.Join(images, "tree-a"), 0o755)
			if c.ready != "-" {
				err = errors.Join(err, os.WriteFile(filepath.Join(disk, "ready"), []byte(c.ready), 0o600))
			}
			if c.files {
				err = errors.Join(err, os.WriteFile(filepath.Join(disk, "files"), nil, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			got := strings.TrimPrefix(askHook(t, keptTree, "", disk, images, c.revision), images+"/")
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("the hook says %q, not %q", got, c.want)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package hostconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keelson/keelson/templates"
)

var update = flag.Bool("update", false, "write the golden file anew")

var host = Host{
	Name: "host-1", Bridge: "keelson0", BridgeCIDR: networks("10.42.0.1/16", "10.43.0.1/24"), BridgeNAT: true,
	Uplink: "eth1.120", Storage: "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4",
	Images: []Image{{"keelson-node", strings.Repeat("0123456789abcdef", 4), "https://images.example.org/keelson-node.tar.zst"}},
	TLS:    &TLS{Authority: []byte("an authority"), Certificate: []byte("a certificate"), Key: []byte("a key\n")},
	Firewall: Firewall{
		Conductors: networks("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"), SSH: networks("192.0.2.128/25"), Nodes: networks("10.42.0.0/16"),
	},
}

func networks(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestGolden(t *testing.T) {
	files := fstest.MapFS{
		"confine":      {Data: []byte("#!/usr/bin/python3 -IS\n")},
		"lxc-hook":     {Data: []byte("#!/usr/bin/python3 -IS\nprint(\"it's: {a: 1}\")\n\n\tx = '%s' # \\n\n")},
		"prepare.sh":   {Data: []byte("#!/bin/sh\nexit 0\n")},
		"unprepare.sh": {Data: []byte("#!/bin/sh\nexit 0\n")},
		"walls.nft":    {Data: []byte("table bridge keelson {\n\tset macs { type ether_addr; }\n}\n")},
	}
	got, err := render(host, files)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "host.yaml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; accept with -update):\n%s", golden, diff)
	}
}

// The real scripts survive the way through YAML byte by byte and are programs.
func TestRealFilesArriveUnharmed(t *testing.T) {
	rendered, err := Render(host)
	if err != nil {
		t.Fatal(err)
	}
	// Ironic keeps a config drive compressed and in base64, 64 MiB at most. So
	// packed, this one is also less than the 64 KiB that other clouds take.
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write(rendered)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if size := base64.StdEncoding.EncodedLen(packed.Len()); size > 48<<10 {
		t.Errorf("%d bytes are too much for user data", size)
	} else {
		t.Logf("%d bytes, %d as Ironic keeps them", len(rendered), size)
	}
	if !strings.HasPrefix(string(rendered), "#cloud-config\n") {
		t.Errorf("begins with %.20q", rendered)
	}
	var doc document
	if err := yaml.Unmarshal(rendered, &doc); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	written := map[string]string{}
	for _, f := range doc.WriteFiles {
		path := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.Content), 0o755); err != nil {
			t.Fatal(err)
		}
		written[f.Path] = path
	}
	for _, name := range []string{"confine", "lxc-hook", "prepare.sh", "unprepare.sh", "walls.nft"} {
		want, err := fs.ReadFile(templates.Host(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(written[scripts+"/"+name])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, check := range map[string][]string{
		"prepare.sh":   {"sh", "-n"},
		"unprepare.sh": {"sh", "-n"},
		"lxc-hook":     {"python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"},
	} {
		if out, err := exec.Command(check[0], append(check[1:], written[scripts+"/"+name])...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// The script reads the settings under the names that are written here.
	prepare, err := os.ReadFile(written[scripts+"/prepare.sh"])
	if err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(written[environment])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(settings)) {
		name, _, _ := strings.Cut(line, "=")
		if !strings.Contains(string(prepare), "${"+name+":-") || !strings.Contains(string(prepare), "#   "+name+" ") {
			t.Errorf("prepare.sh does not read %s", name)
		}
	}
	// Every program that the script insists on comes with a package.
	for _, want := range []string{"libvirt-daemon-driver-lxc", "python3", "e2fsprogs", "iptables", "libseccomp2", "nftables", "curl", "zstd"} {
		if !strings.Contains(strings.Join(doc.Packages, " "), want) {
			t.Errorf("package %s is missing", want)
		}
	}
}

func TestBadHostsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Host)
		says   string
	}{
		{"no name", func(h *Host) { h.Name = "" }, "DNS label"},
		{"name with a newline", func(h *Host) { h.Name = "a\nb" }, "DNS label"},
		{"dotted name", func(h *Host) { h.Name = "a.b" }, "DNS label"},
		{"long bridge", func(h *Host) { h.Bridge = "keelson-bridge-0" }, "bridge"},
		{"bridge with a space", func(h *Host) { h.Bridge = "a b" }, "bridge"},
		{"bridge with a newline", func(h *Host) { h.Bridge = "a\nX=y" }, "bridge"},
		{"no address and no uplink", func(h *Host) { h.BridgeCIDR, h.Uplink = nil, "" }, "IPv4"},
		{"no address and NAT", func(h *Host) { h.BridgeCIDR = nil }, "IPv4"},
		{"uplink with a space", func(h *Host) { h.Uplink = "eth0 eth1" }, "uplink"},
		{"storage that is no disk", func(h *Host) { h.Storage = "/srv" }, "disk"},
		{"storage with a newline", func(h *Host) { h.Storage = "/dev/sdb\nX=y" }, "disk"},
		{"image without a checksum", func(h *Host) { h.Images = []Image{{"a", "", "https://x/a"}} }, "SHA-256"},
		{"image with a path for a name", func(h *Host) { h.Images = []Image{{"../a", host.Images[0].SHA256, "https://x/a"}} }, "node image"},
		{"image from a file", func(h *Host) { h.Images = []Image{{"a", host.Images[0].SHA256, "file:///etc/shadow"}} }, "URL"},
		{"image with a space in its URL", func(h *Host) { h.Images = []Image{{"a", host.Images[0].SHA256, "https://x/a b"}} }, "URL"},
		{"certificate without key", func(h *Host) { h.TLS = &TLS{Authority: []byte("a"), Certificate: []byte("b")} }, "certificate"},
		{"IPv6", func(h *Host) { h.BridgeCIDR = networks("10.42.0.1/16", "2001:db8::1/64") }, "IPv4"},
		{"network address", func(h *Host) { h.BridgeCIDR = networks("10.42.0.0/16") }, "IPv4"},
	} {
		h := host
		c.change(&h)
		if out, err := Render(h); err == nil || !strings.Contains(err.Error(), c.says) || out != nil {
			t.Errorf("%s: error is %v, want %q in it", c.name, err, c.says)
		}
	}
}

// Without networks libvirt is open to all but nodes, SSH to nobody; without
// TLS libvirt is not there to be reached.
func TestRulesWhenNothingIsNamed(t *testing.T) {
	h := host
	h.Firewall = Firewall{}
	if got := h.rules(); !strings.Contains(got, "\t\ttcp dport 16514 accept\n") || strings.Contains(got, "dport 22") || strings.Contains(got, "saddr") {
		t.Errorf("no networks:\n%s", got)
	}
	h = host
	h.TLS = nil
	if got := h.rules(); strings.Contains(got, "16514") || !strings.Contains(got, "dport 22") {
		t.Errorf("no TLS:\n%s", got)
	}
}

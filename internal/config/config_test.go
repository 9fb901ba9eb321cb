// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write etc/keelson/keelson.conf.sample anew")

// loadText loads a configuration of this text and nothing else.
func loadText(text string, env ...string) (*Config, []Warning, error) {
	l := newLoader()
	l.dir = "/etc/keelson"
	l.readText("keelson.conf", text)
	l.readEnv(env)
	return l.finish()
}

func mustLoad(t testing.TB, text string, env ...string) *Config {
	t.Helper()
	c, warnings, err := loadText(text, env...)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	return c
}

// rules returns err's faults without the directory of the file.
func rules(t testing.TB, err error) []string {
	t.Helper()
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("error is %T (%v), want Faults", err, err)
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		f.Source = filepath.Base(f.Source)
		lines[i] = f.Error()
	}
	return lines
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDefaultsAreSound(t *testing.T) {
	c := mustLoad(t, "")
	equal(t, "port", c.API.Port, 9511)
	equal(t, "connection", c.Database.Connection.Reveal(), "sqlite:////var/lib/keelson/keelson.sqlite")
	equal(t, "lease", c.Conductor.Lease, 30*time.Second)
	equal(t, "create_timeout", c.Conductor.CreateTimeout, time.Hour)
	equal(t, "term_of_validity", c.X509.TermOfValidity, 1825*24*time.Hour)
	equal(t, "drivers", c.Drivers.Enabled, []string{"swarm", "kubernetes"})
	equal(t, "docker_refusals", c.Swarm.DockerRefusals, true)
	equal(t, "master key", c.X509.MasterKeyFile, "/var/lib/keelson/master.key")
	flavor, ok := c.Flavors.Flavor("")
	equal(t, "flavor", flavor, Flavor{"keelson.standard", 2, 4096, 20})
	equal(t, "flavor found", ok, true)
	subnet, ok := c.Network.Subnet("")
	equal(t, "network", subnet.String(), "tenants:10.88.0.0/16:10.88.0.1:10.88.1.0-10.88.255.250")
	equal(t, "network found", ok, true)
	image, ok := c.Images.Image("keelson-node")
	equal(t, "image", image, Image{"keelson-node", "debian", "keelson-node"})
	equal(t, "image found", ok, true)
}

func TestDefaultFilesMayBeMissingButNamedOnesMustExist(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.conf")
	if _, _, err := load(Sources{}, missing, filepath.Join(dir, "none.d")); err != nil {
		t.Errorf("missing default files: %v", err)
	}
	_, _, err := load(Sources{Files: []string{missing}, Dirs: []string{filepath.Join(dir, "none.d")}}, "", "")
	equal(t, "faults", rules(t, err), []string{
		"none.conf: cannot be read: no such file or directory",
		"none.d: cannot be read: no such file or directory",
	})
}

func TestLaterSourcesWin(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	file := put("keelson.conf", "[api]\nport=1\nmax_limit=1\nhost=one\n[flavors]\nflavor=a:1:512:1\ndefault_flavor=a\n")
	put("keelson.conf.d/20-b.conf", "[api]\nport=3\n[flavors]\nflavor=c:1:512:1\n")
	put("keelson.conf.d/10-a.conf", "[api]\nport=2\nmax_limit=2\n[flavors]\nflavor=b:1:512:1\n")
	put("keelson.conf.d/30-c.conf.bak", "[api]\nport=4\n")
	put("keelson.conf.d/.hidden.conf", "[api]\nport=5\n")

	c, warnings, err := load(Sources{Env: []string{"OS_API__HOST=env", "OS_AUTH_URL=x", "HOME=/"}}, file, filepath.Join(dir, "keelson.conf.d"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	equal(t, "port: last file of the directory", c.API.Port, 3)
	equal(t, "policy_file: next to the file", c.OsloPolicy.PolicyFile, filepath.Join(dir, "policy.yaml"))
	equal(t, "max_limit: first file of the directory", c.API.MaxLimit, 2)
	equal(t, "host: environment", c.API.Host, "env")
	equal(t, "flavor: all files", fmt.Sprint(c.Flavors.Flavors), "[a:1:512:1 b:1:512:1 c:1:512:1]")

	other := put("other.conf", "[api]\nmax_limit=7\n")
	c, _, err = load(Sources{Files: []string{other}}, file, filepath.Join(dir, "keelson.conf.d"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "a named file replaces the default ones", []int{c.API.Port, c.API.MaxLimit}, []int{9511, 7})

	c, _, err = load(Sources{Files: []string{other, file}, Dirs: []string{filepath.Join(dir, "keelson.conf.d")}}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "named files in order, then directories", []any{c.API.Port, c.API.MaxLimit, c.API.Host}, []any{3, 2, "one"})
}

func TestValues(t *testing.T) {
	get := map[string]func(*Config) any{
		"debug":      func(c *Config) any { return c.Debug },
		"admin":      func(c *Config) any { return c.Identity.AdminPassword.Reveal() },
		"image":      func(c *Config) any { return c.Ironic.Image },
		"nameserver": func(c *Config) any { return c.Network.Nameservers },
		"poll":       func(c *Config) any { return c.Ironic.PollInterval },
		"images":     func(c *Config) any { return fmt.Sprint(c.Images.Images) },
		"ratio":      func(c *Config) any { return c.Hosts.CPUAllocationRatio },
		"key":        func(c *Config) any { return c.X509.MasterKeyFile },
	}
	for _, tt := range []struct {
		what, text, get string
		want            any
	}{
		{"yes", "[DEFAULT]\ndebug = Yes", "debug", true},
		{"DEFAULT needs no header", "debug: on", "debug", true},
		{"group names in any case", "[default]\ndebug=1\n[IDENTITY]\nadmin_password=x", "admin", "x"},
		{"last of repeated", "debug=1\ndebug=0", "debug", false},
		{"password with comment signs", "[identity]\nadmin_password = p#w;d # not a comment", "admin", "p#w;d # not a comment"},
		{"password with back-quote", "[identity]\nadmin_password = `x", "admin", "`x"},
		{"password with backslash", "[identity]\nadmin_password = x\\\ndemo_password=y", "admin", `x\`},
		{"password with equals", "[identity]\nadmin_password = a=b:c", "admin", "a=b:c"},
		{"password with dollar", "[identity]\nadmin_password = a$$b\\$$$c", "admin", "a$b$$c"},
		{"lone dollars stay", "[identity]\nadmin_password = a$1 $", "admin", "a$1 $"},
		{"quotes are taken off once", "[identity]\nadmin_password = \"'  x '\"", "admin", "'  x '"},
		{"a lone quote is taken off", "[identity]\nadmin_password = \"", "admin", ""},
		{"a quote at one end stays", "[identity]\nadmin_password = \"x", "admin", `"x`},
		{"quotes inside stay", "[identity]\nadmin_password = a\"b\"", "admin", `a"b"`},
		{"percent stays", "[identity]\nadmin_password = %(x)s%%", "admin", "%(x)s%%"},
		{"carriage returns are dropped", "[identity]\r\nadmin_password = x\r\n", "admin", "x"},
		{"no line end at the end", "[identity]\nadmin_password = x", "admin", "x"},
		{"byte order mark", "\ufeff[identity]\nadmin_password = x", "admin", "x"},
		{"a list", "[network]\nnameservers = 1.1.1.1 ,9.9.9.9,", "nameserver", []string{"1.1.1.1", "9.9.9.9"}},
		{"a list over lines", "[network]\nnameservers =\n  1.1.1.1,\n\t9.9.9.9\n", "nameserver", []string{"1.1.1.1", "9.9.9.9"}},
		{"an empty list", "[network]\nnameservers =", "nameserver", []string(nil)},
		{"part of a second", "[ironic]\npoll_interval = 0.25", "poll", 250 * time.Millisecond},
		{"several", "[images]\nimage=a:b:c\nimage=d:e:f", "images", "[a:b:c d:e:f]"},
		{"several, none", "[images]\nimage=", "images", "[]"},
		{"number", "[hosts]\ncpu_allocation_ratio=1.5", "ratio", 1.5},
		{"reference within the group", "[ironic]\nimage = x-$resource_class", "image", "x-baremetal"},
		{"reference to DEFAULT", "state_path=/srv/k\n[x509]\nmaster_key_file=${state_path}/m", "key", "/srv/k/m"},
		{"reference to another group", "[ironic]\nimage = ${api.port}-$api.max_limit", "image", "9511-1000"},
		{"reference to a reference", "[ironic]\nimage=$x509.master_key_file", "image", "/var/lib/keelson/master.key"},
		{"own group first", "host=out\n[api]\nhost=in\npublic_endpoint=http://$host/\n[ironic]\nimage=$api.public_endpoint", "image", "http://in/"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			equal(t, tt.get, get[tt.get](mustLoad(t, tt.text)), tt.want)
		})
	}
}

func TestEnvironment(t *testing.T) {
	c := mustLoad(t, "[api]\nport=1\n[images]\nimage=x:y:z",
		"OS_API__PORT=2", "OS_DEFAULT__DEBUG=true", "OS_IMAGES__IMAGE=a:b:c\nd:e:f", "OS_KEYSTONE_AUTHTOKEN__REGION_NAME=north", "OS_TOKEN=1", "OS_OTHER__X=1")
	equal(t, "port", c.API.Port, 2)
	equal(t, "debug", c.Debug, true)
	equal(t, "images", fmt.Sprint(c.Images.Images), "[a:b:c d:e:f]")
	equal(t, "region", c.KeystoneAuthToken.RegionName, "north")

	_, warnings, err := loadText("", "OS_API__PROT=2", "OS_API__PORT=x")
	equal(t, "faults", rules(t, err), []string{`OS_API__PORT: [api] port: must be an integer, not "x"`})
	equal(t, "warnings", fmt.Sprint(warnings), "[OS_API__PROT: [api] prot: no such option, ignored]")
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	_, warnings, err := loadText(strings.Join([]string{
		/*  1 */ "[DEFAULT]",
		/*  2 */ "debug = maybe",
		/*  3 */ "transport_url = http://u:hunter2@h",
		/*  4 */ "a line with hunter2 but no value",
		/*  5 */ "[api",
		/*  6 */ "[api]",
		/*  7 */ "port = 70000",
		/*  8 */ "   , hunter2",
		/*  9 */ "max_limit = 99999999999999999999",
		/* 10 */ "prot = 1",
		/* 11 */ "public_endpoint = http://u:hunter2@h/",
		/* 12 */ "= 3",
		/* 13 */ "",
		/* 14 */ "  indented",
		/* 15 */ "enabled_ssl = true",
		/* 16 */ "[identity]",
		/* 17 */ "enabled = true",
		/* 18 */ "admin_password = $hunter2",
		/* 19 */ "[flavors]",
		/* 20 */ "flavor = good:1:512:1",
		/* 21 */ "flavor = bad:0:512:1",
		/* 22 */ "flavor = worse",
		/* 23 */ "[network]",
		/* 24 */ "network = a:10.0.0.0/24:10.0.0.1:10.0.0.9-10.0.0.20",
		/* 25 */ "network = b:10.0.0.0/16:10.0.0.1:10.0.0.9-10.0.0.20",
		/* 26 */ "default_network = c",
		/* 27 */ "[conductor]",
		/* 28 */ "lease = NaN",
		/* 29 */ "[cluster_heat]",
		/* 30 */ "create_timeout = soon",
		/* 31 */ "[x509]",
		/* 32 */ "key_type = dsa",
	}, "\n"))
	equal(t, "faults", rules(t, err), []string{
		`keelson.conf:4: must be "option = value"`,
		"keelson.conf:5: a group must be written [name]",
		"keelson.conf:12: has a value but no option name",
		"keelson.conf:14: is indented but there is no option before it to continue",
		`keelson.conf:2: [DEFAULT] debug: must be true or false, not "maybe"`,
		"keelson.conf:3: [DEFAULT] transport_url: must start with rabbit:// or amqp:// or amqps:// or memory://",
		`keelson.conf:7: [api] port: must be one line without control characters, not "70000\n, hunter2"`,
		`keelson.conf:9: [api] max_limit: must be between 1 and 100000, not "99999999999999999999"`,
		"keelson.conf:11: [api] public_endpoint: must be a http:// or https:// address without user and password",
		"keelson.conf:18: [identity] admin_password: refers with $ to an option that does not exist; a plain dollar sign is written $$",
		`keelson.conf:28: [conductor] lease: must be between 1 and 3600, not "NaN"`,
		`keelson.conf:30: [conductor] create_timeout: must be a number, not "soon"`,
		"keelson.conf:25: [network] network: has addresses twice: a and b overlap",
		"keelson.conf:26: [network] default_network: must name a network of this group",
		`keelson.conf:21: [flavors] flavor: "bad:0:512:1" has vcpus out of limits: it must be between 1 and 1024`,
		`keelson.conf:22: [flavors] flavor: "worse" must be name:vcpus:memory in MiB:disk in GiB`,
		`keelson.conf:32: [x509] key_type: must be one of ecdsa, rsa, not "dsa"`,
	})
	var told []string
	for _, w := range warnings {
		w.Source = filepath.Base(w.Source)
		told = append(told, w.String())
	}
	equal(t, "warnings", told, []string{
		"keelson.conf:10: [api] prot: no such option, ignored",
		"keelson.conf:30: [cluster_heat] create_timeout: old name of [conductor] create_timeout",
	})
}

func TestRulesAcrossOptions(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	for _, tt := range []struct{ text, want string }{
		{"[api]\nenabled_ssl=1\nssl_cert_file=/c", "default: [api] ssl_key_file: must be set when enabled_ssl is true"},
		{"[metrics]\nenabled=1\nhost=0.0.0.0\npprof=1", "keelson.conf:4: [metrics] pprof: must be false unless host is a loopback address like 127.0.0.1"},
		{"[identity]\nenabled=1\nadmin_password=x", "default: [identity] demo_password: must be set when enabled is true"},
		{"[keystone_authtoken]\nauth_url=http://k/v3", "default: [keystone_authtoken] password: must be set when auth_url is"},
		{"[ironic]\nauth_type=password\nauth_url=http://k\nusername=u", "default: [ironic] password: must be set when auth_type is password"},
		{"[ironic]\nbuiltin=1\nendpoint_override=http://i", "keelson.conf:3: [ironic] endpoint_override: cannot be set when builtin is true"},
		{"[flavors]\ndefault_flavor=x", "keelson.conf:2: [flavors] default_flavor: must name a flavor of this group"},
		{"[flavors]\nflavor=keelson.standard:1:512:1\nflavor=keelson.standard:2:512:1", "keelson.conf:3: [flavors] flavor: has keelson.standard twice"},
		{"[images]\nimage=a:b:c\nimage=a:d:e", "keelson.conf:3: [images] image: has a twice"},
		{"[images]\narchive=a:" + sum + ":http://x/a\narchive=a:" + sum + ":http://x/b", "keelson.conf:3: [images] archive: has a twice"},
		{"[network]\nnetwork=", "keelson.conf:2: [network] network: must be given at least once"},
		{"host=", "keelson.conf:1: [DEFAULT] host: must be set, for this machine has no host name"},
		{"transport_url=", "keelson.conf:1: [DEFAULT] transport_url: must be set"},
		{"[database]\nconnection=", "keelson.conf:2: [database] connection: must be set"},
		{"state_path=$state_path/x", "keelson.conf:1: [DEFAULT] state_path: refers to itself, maybe through other options"},
		{"[api]\nhost=$transport_url", "keelson.conf:2: [api] host: refers with $ to a secret option, and would show it"},
		{"[api]\nhost=$flavors.flavor", "keelson.conf:2: [api] host: refers with $ to an option that has several values"},
		{"\xff", "keelson.conf: is not UTF-8 text"},
	} {
		_, _, err := loadText(tt.text)
		if got := rules(t, err); got[0] != tt.want {
			t.Errorf("%q:\n got %q\nwant %q", tt.text, got, tt.want)
		}
	}
}

func TestNetworks(t *testing.T) {
	c := mustLoad(t, "[network]\nnetwork = a:10.0.0.0/24:10.0.0.1:10.0.0.10-10.0.0.20,10.0.0.30-10.0.0.30:tier=gold, zone=a\nnetwork=b:10.1.0.0/30:10.1.0.1:10.1.0.2-10.1.0.2\ndefault_network=b")
	a, _ := c.Network.Subnet("a")
	ip := netip.MustParseAddr
	equal(t, "a", a, Subnet{
		"a", netip.MustParsePrefix("10.0.0.0/24"), ip("10.0.0.1"),
		[]Range{{ip("10.0.0.10"), ip("10.0.0.20")}, {ip("10.0.0.30"), ip("10.0.0.30")}},
		[]string{"tier=gold", "zone=a"},
	})
	b, _ := c.Network.Subnet("")
	equal(t, "default", b.Name, "b")

	for written, want := range map[string]string{
		"a:10.0.0.0/24:10.0.0.1":                                     "must be name:cidr:gateway:first-last, or that and :key=value",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.9:a=b:c=d":           "must be name:cidr:gateway:first-last, or that and :key=value",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.9:gold":              "needs labels key=value, separated by commas, in fifth place",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.9:a=b,=c":            "needs labels key=value, separated by commas, in fifth place",
		"-a:10.0.0.0/24:10.0.0.1:10.0.0.2-10.0.0.3":                  "is not a name: up to 63 letters, digits and . _ - between them",
		"a:10.0.0.0:10.0.0.1:10.0.0.2-10.0.0.3":                      "needs an IPv4 network from /8 to /30 in second place",
		"a:10.0.0.0/31:10.0.0.1:10.0.0.2-10.0.0.3":                   "needs an IPv4 network from /8 to /30 in second place",
		"a:10.0.0.7/24:10.0.0.1:10.0.0.2-10.0.0.3":                   "has host bits set in its network; 10.0.0.0/24 is meant",
		"a:10.0.0.0/24:10.0.1.1:10.0.0.2-10.0.0.3":                   "needs a gateway inside its network in third place",
		"a:10.0.0.0/24:10.0.0.0:10.0.0.2-10.0.0.3":                   "needs a gateway inside its network in third place",
		"a:10.0.0.0/24:10.0.0.255:10.0.0.2-10.0.0.3":                 "needs a gateway inside its network in third place",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.2":                            "needs ranges first-last, separated by commas, in fourth place",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.2":                   "has the range 10.0.0.3-10.0.0.2, which is not inside its network",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.255":                 "has the range 10.0.0.3-10.0.0.255, which is not inside its network",
		"a:10.0.0.0/24:10.0.0.1:10.0.0.3-10.0.0.9,10.0.0.9-10.0.0.9": "has overlapping ranges 10.0.0.3-10.0.0.9 and 10.0.0.9-10.0.0.9",
	} {
		_, _, err := loadText("[network]\nnetwork = " + written)
		equal(t, written, rules(t, err), []string{`keelson.conf:2: [network] network: ` + quote(written) + " " + want})
	}
}

// How hosts are prepared.
func TestPreparationOfHosts(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	c := mustLoad(t, "[hosts]\nconductor_network=192.0.2.0/24\nconductor_network=2001:db8::/32\nssh_network=198.51.100.7/32\nstorage_device=/dev/disk/by-id/wwn-0x5\n"+
		"[network]\nuplink=bond0.120\n[images]\narchive=keelson-node:"+sum+":https://x.example:8443/a.tar.zst")
	equal(t, "conductors", fmt.Sprint(c.Hosts.ConductorNetworks), "[192.0.2.0/24 2001:db8::/32]")
	equal(t, "SSH", fmt.Sprint(c.Hosts.SSHNetworks), "[198.51.100.7/32]")
	equal(t, "disk", c.Hosts.StorageDevice, "/dev/disk/by-id/wwn-0x5")
	equal(t, "uplink", c.Network.Uplink, "bond0.120")
	equal(t, "archives", c.Images.Archives, []Archive{{"keelson-node", sum, "https://x.example:8443/a.tar.zst"}})

	for _, tt := range []struct{ group, option, written, want string }{
		{"hosts", "conductor_network", "192.0.2.7", "must be a network, like 192.0.2.0/24"},
		{"hosts", "ssh_network", "192.0.2.7/24", "has host bits set; 192.0.2.0/24 is meant"},
		{"hosts", "storage_device", "sdb", "must be a disk below /dev"},
		{"hosts", "storage_device", "/dev/sdb\x20x", "must be a disk below /dev"},
		{"hosts", "libvirt_uri", "lxc+tcp://{address}/system", "must be lxc+tls:// with {address}, or lxc:/// for this machine"},
		{"hosts", "libvirt_uri", "lxc+ssh://{address}/system", "must be lxc+tls:// with {address}, or lxc:/// for this machine"},
		{"hosts", "libvirt_uri", "lxc://{address}/system", "must be lxc+tls:// with {address}, or lxc:/// for this machine"},
		{"hosts", "libvirt_uri", "qemu:///system", "must be lxc+tls:// with {address}, or lxc:/// for this machine"},
		{"network", "uplink", "an-interface-with-a-long-name", "must be a name of a network interface, at most 15 characters"},
		{"images", "archive", "keelson-node", "must be node image:SHA-256:URL"},
		{"images", "archive", "../x:" + sum + ":https://x/a", "has a first part that is not the name of a node image: lower-case letters, digits and . _ -"},
		{"images", "archive", "x:abc:https://x/a", "has a second part that is not a SHA-256 checksum: 64 lower-case hexadecimal digits"},
		{"images", "archive", "x:" + sum + ":file:///a", "has a third part that is not an http or https URL"},
	} {
		_, _, err := loadText("[" + tt.group + "]\n" + tt.option + " = " + tt.written)
		if got := rules(t, err)[0]; !strings.HasPrefix(got, "keelson.conf:2: ["+tt.group+"] "+tt.option+": ") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.written, got, tt.want)
		}
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const password = "hunter2"
	c := mustLoad(t, "transport_url = rabbit://u:hunter2@h/\n[identity]\nadmin_password=hunter2\n[database]\nconnection=mysql://u:hunter2@h/k")
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	log.Info("config", "secret", c.TransportURL, "all", c, "group", c.Identity)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("config", "secret", c.TransportURL, "group", c.Identity)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%t"} {
		fmt.Fprintf(&out, verb, c.TransportURL)
		fmt.Fprintf(&out, verb, *c)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	if err := WriteShow(&out, c); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password)} {
		if strings.Contains(out.String(), form) {
			i := strings.Index(out.String(), form)
			t.Errorf("secret is shown: %s", out.String()[max(0, i-60):i+len(form)])
		}
	}
	if !strings.Contains(out.String(), "admin_password = ****") {
		t.Error("config show does not mask")
	}
	equal(t, "unset secret", c.Ironic.Password.String(), "")
}

// unmask puts something allowed in the place of masked secrets.
func unmask(shown string) string {
	return strings.NewReplacer("connection = ****", "connection = sqlite://", "transport_url = ****", "transport_url = memory://").Replace(shown)
}

func TestShowReadsBackToTheSameConfiguration(t *testing.T) {
	c := mustLoad(t, `
host = c1
[ironic]
image = a$$b
project_name = "'quoted'"
user_domain_name = "  spaces  "
traits = CUSTOM_A,CUSTOM_B
poll_interval = 0.1
[images]
image =
[conductor]
create_timeout = 1.5
`)
	var shown strings.Builder
	if err := WriteShow(&shown, c); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, unmask(shown.String()))
	again.TransportURL, again.Database.Connection = c.TransportURL, c.Database.Connection
	equal(t, "configuration", again, c)
}

// TestSample proves three things of the sample file: it is the one in etc/, it
// changes nothing as it is, and the values it shows are the defaults.
func TestSample(t *testing.T) {
	var sample bytes.Buffer
	if err := WriteSample(&sample); err != nil {
		t.Fatal(err)
	}
	const golden = "../../etc/keelson/keelson.conf.sample"
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, sample.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if !bytes.Equal(want, sample.Bytes()) {
		t.Errorf("%s is out of date: run `go test -tags libvirt_dlopen ./internal/config -update`", golden)
	}

	defaults := mustLoad(t, "")
	equal(t, "the sample as it is", mustLoad(t, sample.String()), defaults)
	text := regexp.MustCompile(`(?m)^#([a-z0-9_]+ =)`).ReplaceAllString(sample.String(), "$1")
	text = regexp.MustCompile(`(?m)^host = <.*$`).ReplaceAllString(text, "")
	equal(t, "the sample with every line in force", mustLoad(t, text), defaults)
}

// TestDeclarations checks what every option must have.
func TestDeclarations(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range new(Config).groups() {
		if g.help == "" {
			t.Errorf("[%s] has no help", g.name)
		}
		for _, o := range g.options {
			id := g.name + "." + o.name
			if seen[id] {
				t.Errorf("%s is declared twice", id)
			}
			seen[id] = true
			if o.group != g.name || groupName(g.name) != g.name || o.name != strings.ToLower(o.name) {
				t.Errorf("%s could not be found by its name", id)
			}
			if !strings.HasSuffix(o.help, ".") {
				t.Errorf("%s: help is not a sentence: %q", id, o.help)
			}
			if !o.secret && regexp.MustCompile("password$|^connection$|transport_url$").MatchString(o.name) {
				t.Errorf("%s looks like a secret but is not", id)
			}
		}
	}
}

// FuzzLoad: no file makes the loader panic, show a secret or accept what it
// then shows differently.
func FuzzLoad(f *testing.F) {
	f.Add("[api]\nport = 1\n  2\n[identity]\nadmin_password = 'x$$#'\n")
	f.Add("[flavors]\nflavor=a:1:512:1\ndefault_flavor=a\n[network]\nnetwork=a:10.0.0.0/24:10.0.0.1:10.0.0.2-10.0.0.9\n")
	f.Add("state_path=/$host\nhost=${api.host}\n[api]\nhost=$host\n")
	f.Add("[ironic]\nimage=\"$$\"\ntraits=A,B,,\n[cluster_heat]\ncreate_timeout=0.1e1\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := loadText(text + "\n[identity]\ndemo_password = hunter2\n")
		if err != nil {
			_ = rules(t, err)
			return
		}
		var shown strings.Builder
		if err := WriteShow(&shown, c); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(shown.String(), "demo_password = hunter2") {
			t.Fatal("config show shows a secret")
		}
		again, _, err := loadText(unmask(shown.String()))
		if err != nil {
			t.Fatalf("what is shown cannot be read: %v\n%s", err, shown.String())
		}
		var shownAgain strings.Builder
		if err := WriteShow(&shownAgain, again); err != nil {
			t.Fatal(err)
		}
		equal(t, "shown again", shownAgain.String(), shown.String())
	})
}

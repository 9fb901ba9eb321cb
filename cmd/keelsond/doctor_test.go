// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/store/storetest"
	"github.com/keelson/keelson/internal/testenv"
)

// patient is an installation on the real parts of the lab.
func patient(t *testing.T) (*operator, *store.Store) {
	t.Helper()
	o := newOperator(t, fmt.Sprintf(`[DEFAULT]
transport_url = %s
[keystone_authtoken]
auth_url = %s
password = %s
[ironic]
endpoint_override = %s
resource_class = nobodys
[images]
image = node:debian:%s
`, testenv.Require(t, testenv.RabbitMQ), testenv.Require(t, testenv.Keystone), testenv.Require(t, testenv.KeystonePassword),
		testenv.Require(t, testenv.Ironic), testenv.Require(t, testenv.NodeImage)))
	s := o.onDatabase(storetest.MariaDB(t))
	uri := testenv.Require(t, testenv.Libvirt)
	must(t, s.AddHost(t.Context(), &model.Host{
		UUID: uuid.NewString(), Name: "rack-1", State: model.HostReady, Bridge: "br0", LibvirtURI: &uri, TotalVCPUs: 1, TotalMemoryMiB: 1, TotalDiskGiB: 1,
	}))
	return o, s
}

// examine returns what the doctor finds, by check.
func (o *operator) examine(args ...string) (map[string][]finding, error) {
	o.Helper()
	out, err := o.run(append([]string{"doctor", "-f", "json", "--timeout", "2m"}, args...)...)
	var all []finding
	if e := json.Unmarshal([]byte(out), &all); e != nil {
		o.Fatalf("%v, %v: %s", err, e, out)
	}
	found := map[string][]finding{}
	for _, f := range all {
		found[f.Check] = append(found[f.Check], f)
	}
	return found, err
}

// With all parts real and right nothing is bad, each check says something, and
// looking changes nothing.
func TestDoctorFindsNothingWrong(t *testing.T) {
	o, s := patient(t)
	must(t, s.Heartbeat(t.Context(), "conductor-1", "magnum-conductor"))
	for range 2 {
		found, err := o.examine()
		must(t, err)
		for _, check := range []string{"files", "policy", "drivers", "database", "clock", "master keys", "operations", "broker", "keystone", "catalogue", "cloud", "ironic", "hosts", "certificates", "conductors"} {
			if len(found[check]) == 0 {
				t.Errorf("nothing is said of %s", check)
			}
			for _, f := range found[check] {
				if strings.Contains(f.Says, "the disk of") {
					continue // the one that tests run on may be full
				}
				// The lab's Ironic has no machines of that class.
				if want := check == "ironic"; f.State == stateBad || (f.State == stateWarning) != want {
					t.Errorf("%+v", f)
				}
				if (f.State == stateGood) != (f.Mend == "") {
					t.Errorf("how to mend what: %+v", f)
				}
			}
		}
	}
	if _, err := s.Certificate(t.Context(), "", 0, model.CertHostCA, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the authority of the hosts: %v", err)
	}
	left, err := os.ReadDir(o.dir)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	out, err := o.run("doctor", "--only", "broker,conductors")
	must(t, err)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !slices.Equal(strings.Fields(lines[0]), []string{"CHECK", "STATE", "SAYS"}) {
		t.Errorf("got\n%s", out)
	}
}

// Each thing that is wrong is found by the check it belongs to, with words for
// how to mend it, and no secret.
func TestDoctorFindsWhatIsWrong(t *testing.T) {
	const secret = "s3cr3t-of-nobody"
	well, s := patient(t) // what each case spoils in the database is looked at by that case only
	set := func(section, line string) func(*operator, *store.Store) error {
		return func(o *operator, _ *store.Store) error {
			o.config += "[" + section + "]\n" + line + "\n"
			return nil
		}
	}
	for name, tt := range map[string]struct {
		spoil             func(*operator, *store.Store) error
		only, check, says string
		mend              string
	}{
		"state_path is open": {
			func(o *operator, _ *store.Store) error { return os.Chmod(o.dir, 0o777) },
			"files", "files", "others may write to", "chmod 0700",
		},
		"no state_path": {set("DEFAULT", "state_path = /nowhere/at/all"), "files", "files", "no such file", "install -d -m 0700"},
		"master keys are open": {
			func(o *operator, _ *store.Store) error { return os.Chmod(filepath.Join(o.dir, "master.key"), 0o644) },
			"files", "files", "others can get at it", "0600",
		},
		"another cloud's master key": {
			func(o *operator, s *store.Store) error {
				key := filepath.Join(o.dir, "master.key")
				sealer, err := ca.LoadKeyFile(key)
				if err != nil {
					return err
				}
				authority, err := ca.New(s, sealer, ca.Options{NotFound: store.ErrNotFound, Term: time.Hour, KeyType: "ecdsa"})
				if err != nil {
					return err
				}
				if _, err := authority.Hosts().Authority(o.Context()); err != nil {
					return err
				}
				if err := os.Remove(key); err != nil {
					return err
				}
				_, err = ca.LoadOrCreateKeyFile(key)
				return err
			},
			"database", "master keys", "1 secrets in the database are sealed with key", "bring the key back",
		},
		"bad policy":  {func(o *operator, _ *store.Store) error { return badPolicy(o) }, "policy", "policy", "policy.yaml", "keelsond policy sample"},
		"no database": {set("database", "connection = mysql+pymysql://keelson:"+secret+"@127.0.0.1:1/keelson"), "database,conductors", "database", "connection refused", "[database] connection"},
		"no schema": {func(o *operator, _ *store.Store) error {
			o.config += "[database]\nconnection = sqlite://\n"
			return nil
		}, "database,hosts,certificates,conductors", "database", "has no tables", "keelsond db sync"},
		"no broker":          {set("DEFAULT", "transport_url = rabbit://keelson:"+secret+"@127.0.0.1:1/"), "broker", "broker", "connection refused", "RabbitMQ runs there"},
		"no Keystone":        {set("keystone_authtoken", "auth_url = http://127.0.0.1:1/v3"), "keystone", "keystone", "connection refused", "auth_url"},
		"wrong password":     {set("keystone_authtoken", "password = "+secret), "keystone", "keystone", "401 Unauthorized", "keystone-setup"},
		"no Ironic":          {set("ironic", "endpoint_override = http://127.0.0.1:1"), "ironic", "ironic", "Ironic", "[ironic] endpoint_override"},
		"host without image": {set("images", "image = other:debian:not-there"), "hosts", "hosts", "not-there", "docs/hosts.md"},
		"host is away": {
			func(o *operator, s *store.Store) error {
				uri := "lxc+unix:///system?socket=/nowhere/sock"
				return s.AddHost(o.Context(), &model.Host{UUID: uuid.NewString(), Name: "rack-2", State: model.HostReady, Bridge: "br0", LibvirtURI: &uri, TotalVCPUs: 1, TotalMemoryMiB: 1, TotalDiskGiB: 1})
			},
			"hosts", "hosts", "rack-2", "docs/hosts.md",
		},
		"certificate and key of the API are no pair": {
			func(o *operator, _ *store.Store) error {
				other := o.TempDir()
				putCertificate(o.T, o.dir, "api")
				putCertificate(o.T, other, "api")
				o.config += fmt.Sprintf("[api]\nenabled_ssl = true\nssl_cert_file = %s/cert.pem\nssl_key_file = %s/key.pem\n", o.dir, other)
				return nil
			},
			"certificates", "certificates", "private key does not match", "replace both",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t, well.config)
			must(t, tt.spoil(o, s))
			found, err := o.examine("--only", tt.only)
			if err == nil || !strings.Contains(err.Error(), " things are bad") {
				t.Errorf("it ends with %v", err)
			}
			i := slices.IndexFunc(found[tt.check], func(f finding) bool { return f.State == stateBad })
			if i < 0 {
				t.Fatalf("found %+v", found)
			}
			if f := found[tt.check][i]; !strings.Contains(f.Says, tt.says) || !strings.Contains(f.Mend, tt.mend) {
				t.Errorf("found %+v", f)
			}
			if strings.Contains(fmt.Sprint(found), secret) {
				t.Errorf("a secret is told: %+v", found)
			}
		})
	}
}

func badPolicy(o *operator) error {
	o.config += "[oslo_policy]\npolicy_file = " + o.dir + "/policy.yaml\n"
	return os.WriteFile(filepath.Join(o.dir, "policy.yaml"), []byte("\"cluster:get\": \"role:(\"\n"), 0o600)
}

func TestDoctorTellsWhatEnds(t *testing.T) {
	for left, want := range map[time.Duration]string{-time.Minute: stateBad, 24 * time.Hour: stateWarning, 40 * 24 * time.Hour: stateGood} {
		d := &doctor{process: &process{log: slog.New(slog.DiscardHandler)}}
		d.tellEnd(time.Now().Add(left), "it", "replace it")
		if got := d.findings[0]; got.State != want {
			t.Errorf("%s before its end: %+v", left, got)
		}
	}
}

func TestDoctorComparesClocks(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		theirs time.Duration
		slack  time.Duration
		want   string
	}{
		{0, 0, stateGood},
		{time.Second, 0, stateGood},
		{-3 * time.Second, 0, stateWarning},
		{3 * time.Second, 2 * time.Second, stateGood},
		{-2 * time.Minute, time.Second, stateBad},
		{time.Hour, time.Second, stateBad},
	} {
		d := &doctor{process: &process{log: slog.New(slog.DiscardHandler)}}
		d.compareClocks("database", now.Add(tt.theirs), now, tt.slack)
		if got := d.findings[0]; got.State != tt.want {
			t.Errorf("%s ahead, within %s: %+v", tt.theirs, tt.slack, got)
		}
	}
}

func TestDoctorRefusesUnknownChecks(t *testing.T) {
	o := newOperator(t, "")
	if _, err := o.run("doctor", "--skip", "weather"); err == nil || !strings.Contains(err.Error(), `no check "weather"`) {
		t.Errorf("got %v", err)
	}
}

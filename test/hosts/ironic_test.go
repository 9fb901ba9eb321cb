// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/internal/testenv"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

const hostAddress = "10.117.0.11"

// A machine that Ironic deploys gets the config drive that Keelson gave to
// Ironic. It fetches the node image, verifies it, and takes a node. From then
// on conductors and host are certain of each other.
func TestHostFromIronic(t *testing.T) {
	var settings []string
	archive := packed(t, &settings)
	server := ironictest.New(ironictest.Options{Logger: slog.New(slog.DiscardHandler)}).Node(nodes.Node{
		Name: "bare-1", ProvisionState: "available", PowerState: "power off", ResourceClass: "baremetal",
		Properties: map[string]any{"cpus": 2, "memory_mb": 4096, "local_gb": 64},
		Extra:      map[string]any{ironic.ExtraAddress: hostAddress},
	})
	api := httptest.NewServer(server)
	defer api.Close()
	disk := newDisk(t)
	r := newRegion(t, append(settings, "[hosts]", "storage_device = "+disk, "[ironic]", "endpoint_override = "+api.URL, "image = https://images.example.org/debian.qcow2", "poll_interval = 0.1")...)
	r.serveFile(archive)
	r.serve()
	c := r.create("wide", 1, 0)

	var drive struct {
		UserData string         `json:"user_data"`
		MetaData map[string]any `json:"meta_data"`
	}
	r.eventually("Ironic was given a config drive", 30*time.Second, func() error {
		given := server.ConfigDrive("bare-1")
		if given == nil {
			return errors.New("none")
		}
		return json.Unmarshal(given, &drive)
	})
	if drive.MetaData["hostname"] != "host-1" {
		t.Errorf("meta data: %v", drive.MetaData)
	}
	images := filepath.Join(r.dir, "images") // nothing in it yet
	r.must(os.Mkdir(images, 0o700))
	m := r.boot("host-1", hostAddress, drive.UserData, images)
	m.prepared()
	c.complete(2 * time.Minute)
	c.busybox()
	if out := c.docker(c.MasterAddresses[0], "run", "--rm", "--network", "none", "busybox", "busybox", "echo", "it runs"); out != "it runs" {
		t.Errorf("a container says %q", out)
	}

	t.Run("storage", func(t *testing.T) { r.in(t).storage(m, disk) })
	t.Run("image", func(t *testing.T) { r.in(t).imageIsVerified(m) })
	t.Run("certificates", func(t *testing.T) { r.in(t).certificates(m) })
	t.Run("firewall", func(t *testing.T) { r.in(t).firewall() })
	// prepare.sh was run many times meanwhile, and libvirtd started anew.
	if out := c.docker(c.MasterAddresses[0], "images", "--quiet"); out == "" {
		t.Error("what the node had on its disk is gone")
	}
	c.remove()
}

// newDisk is an empty disk.
func newDisk(t *testing.T) string {
	t.Helper()
	r := &region{T: t}
	file := filepath.Join(t.TempDir(), "disk")
	r.must(os.WriteFile(file, nil, 0o600))
	r.must(os.Truncate(file, 16<<30))
	disk := r.run("losetup", "--find", "--show", file)
	t.Cleanup(func() { r.run("losetup", "--detach", disk) })
	return disk
}

// The nodes' disks are on a disk of their own. One that holds something is
// left as it is.
func (r *region) storage(m *machine, disk string) {
	if got := m.inside("findmnt --noheadings --output SOURCE,FSTYPE /var/lib/keelson/host; ls /var/lib/keelson/host/nodes"); !strings.HasPrefix(got, disk+" ext4\n") || !strings.HasSuffix(got, ".img") {
		r.Errorf("on the host: %s", got)
	}
	taken := newDisk(r.T)
	r.run("mkswap", taken)
	before := r.run("blkid", "-p", taken)
	for device, says := range map[string]string{taken: "holds swap already", "/dev/null": "not a disk"} {
		if out, err := m.tryInside("KEELSON_STATE=/var/lib/keelson/other KEELSON_STORAGE=" + device + " /usr/lib/keelson/host/prepare.sh"); err == nil || !strings.Contains(out, says) {
			r.Errorf("%s: %v, %s", device, err, out)
		}
	}
	if after := r.run("blkid", "-p", taken); after != before {
		r.Errorf("the disk was %s and is %s", before, after)
	}
}

// packed makes the archive of the node image, and what the configuration says
// of it.
func packed(t *testing.T, settings *[]string) string {
	t.Helper()
	images, image := testenv.Require(t, testenv.Images), testenv.Require(t, testenv.NodeImage)
	archive := filepath.Join(t.TempDir(), "node.tar")
	r := &region{T: t}
	line := r.run("../../templates/node/pack.sh", images, archive, image)
	*settings = append(*settings, "[images]", strings.Replace(line, "https://IMAGE-SERVER", "http://"+conductorAddress+":8080", 1))
	return archive
}

// serveFile is the web server of node images.
func (r *region) serveFile(file string) {
	r.Helper()
	listener, err := net.Listen("tcp", conductorAddress+":8080")
	r.must(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(file))), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	r.Cleanup(func() { _ = server.Close() })
}

// in is the region for a subtest.
func (r *region) in(t *testing.T) *region {
	sub := *r
	sub.T = t
	return &sub
}

// What the server has is not what the operator meant: it is not unpacked, and
// what the host has goes on being used.
func (r *region) imageIsVerified(m *machine) {
	before := m.inside("ls -A /var/cache/keelson/images")
	m.inside("cp /etc/keelson/images /etc/keelson/images.good")
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("something else")))
	m.inside("sed -E 's/^([^ ]+) [0-9a-f]+ /\\1 " + sum + " /' /etc/keelson/images.good >/etc/keelson/images")
	if out, err := m.tryInside("/usr/lib/keelson/host/prepare.sh"); err == nil || !strings.Contains(out, "has not the checksum "+sum) {
		r.Errorf("an image with another checksum: %v, %s", err, out)
	}
	m.inside("echo 'gone " + sum + " http://" + conductorAddress + ":8080/gone' >/etc/keelson/images")
	if out, err := m.tryInside("/usr/lib/keelson/host/prepare.sh"); err == nil || !strings.Contains(out, "cannot be fetched") {
		r.Errorf("an image that is not there: %v, %s", err, out)
	}
	m.inside("mv /etc/keelson/images.good /etc/keelson/images; /usr/lib/keelson/host/prepare.sh")
	if after := m.inside("ls -A /var/cache/keelson/images"); after != before {
		r.Errorf("the images were\n%s\nand are\n%s", before, after)
	}
}

// greets tells what libvirt does with a client: it sends one byte to those
// that it lets in.
func greets(certificate *tls.Certificate) error {
	// The test looks at what the server makes of the client, not the reverse.
	settings := &tls.Config{InsecureSkipVerify: true}
	if certificate != nil {
		settings.Certificates = []tls.Certificate{*certificate}
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	connection, err := tls.DialWithDialer(&dialer, "tcp", hostAddress+":16514", settings)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = io.ReadFull(connection, make([]byte, 1))
	return err
}

func (r *region) certificates(m *machine) {
	s, err := store.Open(r.Context(), "sqlite:///"+filepath.Join(filepath.Dir(r.config), "keelson.db"), store.Options{Logger: slog.New(slog.DiscardHandler)})
	r.must(err)
	defer func() { _ = s.Close() }()
	sealer, err := ca.LoadKeyFile(filepath.Join(filepath.Dir(r.config), "state/master.key"))
	r.must(err)
	authorities, err := ca.New(s, sealer, ca.Options{NotFound: store.ErrNotFound})
	r.must(err)
	ours, theirs := authorities.Hosts(), stranger(r)
	pair := func(cert, key []byte, err error) *tls.Certificate {
		r.must(err)
		pair, err := tls.X509KeyPair(cert, key)
		r.must(err)
		return &pair
	}
	otherCert, otherKey, err := ours.Server(r.Context(), "host-2", "10.117.0.12")
	r.must(err)

	// Who gets in: conductors only.
	if err := greets(pair(ours.Conductor(r.Context()))); err != nil {
		r.Errorf("a conductor: %v", err)
	}
	for who, certificate := range map[string]*tls.Certificate{
		"a client without a certificate":               nil,
		"a conductor of another authority":             pair(theirs.Conductor(r.Context())),
		"another host":                                 pair(otherCert, otherKey, nil),
		"another host that is called like a conductor": pair(ours.Server(r.Context(), ca.ConductorName, "10.117.0.13")),
	} {
		if err := greets(certificate); err == nil {
			r.Errorf("%s gets in", who)
		}
	}

	// Whom a conductor believes: the host at that address, with a certificate
	// of the hosts' authority for that address. prepare.sh puts another
	// certificate into force when it is there.
	pki := filepath.Join(r.TempDir(), "pki")
	r.must(ours.WriteClient(r.Context(), pki))
	probe := func() error {
		pool, err := lxc.NewPoolWithTLS(slog.New(slog.DiscardHandler), pki)
		r.must(err)
		defer func() { _ = pool.Close() }()
		_, err = pool.Host("host-1", "lxc+tls://"+hostAddress+"/system").Probe(r.Context(), testenv.Require(r.T, testenv.NodeImage))
		return err
	}
	if err := probe(); err != nil {
		r.Fatalf("the host as it is: %v", errors.Join(err, errors.Unwrap(err)))
	}
	install := func(cert, key []byte) {
		dir := fmt.Sprintf("/proc/%d/root/etc/keelson/pki/", m.init)
		r.must(os.WriteFile(dir+"servercert.pem", cert, 0o644))
		r.must(os.WriteFile(dir+"serverkey.pem", key, 0o600))
		m.inside("/usr/lib/keelson/host/prepare.sh")
	}
	foreignCert, foreignKey, err := theirs.Server(r.Context(), "host-1", hostAddress)
	r.must(err)
	foreignCA, err := theirs.Authority(r.Context())
	r.must(err)
	ownCA := m.inside("cat /etc/keelson/pki/cacert.pem")
	for _, impostor := range []struct {
		who       string
		cert, key []byte
		authority string
	}{
		{"another host", otherCert, otherKey, ownCA},
		{"a host of another authority", foreignCert, foreignKey, string(foreignCA)},
	} {
		r.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/etc/keelson/pki/cacert.pem", m.init), []byte(impostor.authority+"\n"), 0o644))
		install(impostor.cert, impostor.key)
		err := probe()
		if err == nil || fault.IsPermanent(err) || !strings.Contains(fault.Reason(err, ""), "certificate") {
			r.Errorf("%s is believed, or not said to be wrong: %v", impostor.who, err)
		}
		r.Logf("%s: %v", impostor.who, errors.Unwrap(err))
	}
	r.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/etc/keelson/pki/cacert.pem", m.init), []byte(ownCA+"\n"), 0o644))
	renewedCert, renewedKey, err := ours.Server(r.Context(), "host-1", hostAddress)
	r.must(err)
	install(renewedCert, renewedKey)
	if err := probe(); err != nil {
		r.Errorf("the host with a new certificate: %v", errors.Join(err, errors.Unwrap(err)))
	}
}

// stranger is another Keelson's authority of hosts.
func stranger(r *region) *ca.Hosts {
	r.Helper()
	s, err := store.Open(r.Context(), "sqlite://", store.Options{Logger: slog.New(slog.DiscardHandler)})
	r.must(err)
	r.Cleanup(func() { _ = s.Close() })
	r.must(s.Migrate(r.Context()))
	sealer, err := ca.LoadOrCreateKeyFile(filepath.Join(r.TempDir(), "key"))
	r.must(err)
	authorities, err := ca.New(s, sealer, ca.Options{NotFound: store.ErrNotFound})
	r.must(err)
	return authorities.Hosts()
}

// The host answers conductors' networks, on libvirt's port; anything else
// finds nobody there.
func (r *region) firewall() {
	r.run("ip", "address", "replace", "10.118.0.1/24", "dev", "mgmt0")
	r.reaches(conductorAddress, hostAddress+":16514")
	r.shut("10.118.0.1", hostAddress+":16514")
	r.shut(nodeGateway, hostAddress+":16514")
	r.shut(conductorAddress, hostAddress+":22")
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/internal/lxc"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/simhost"
	"github.com/keelson/keelson/internal/store"
)

const (
	// endsSoon is how long before its end a certificate is spoken of.
	endsSoon = 30 * 24 * time.Hour
	// endingShown is how many certificates of clusters are spoken of.
	endingShown = 20
	// hostsAtOnce are asked side by side.
	hostsAtOnce = 8
)

func (d *doctor) lookAtHosts(ctx context.Context) {
	if !d.reachDatabase(ctx) {
		return
	}
	asking, cancel := d.ask(ctx)
	hosts, err := d.store.Hosts(asking)
	cancel()
	if err != nil {
		d.bad("hosts", "see the check of the database", "%v", err)
		return
	}
	if len(hosts) == 0 {
		d.good("hosts", "there are none yet")
		return
	}
	pki, ok := d.pkiFor(ctx, hosts)
	if !ok {
		return
	}
	libvirt, err := lxc.NewPoolWithTLS(d.log, pki)
	if err != nil {
		d.bad("hosts", "install libvirt's client library, libvirt0", "%v", err)
		return
	}
	d.onClose(libvirt.Close)
	found := make([]finding, len(hosts))
	var all errgroup.Group
	all.SetLimit(hostsAtOnce)
	for i := range hosts {
		all.Go(func() error {
			found[i] = d.lookAtHost(ctx, libvirt, pki, &hosts[i])
			return nil
		})
	}
	_ = all.Wait() // none fails
	d.findings = append(d.findings, found...)
}

// pkiFor writes this machine's certificate for hosts if any host takes one.
func (d *doctor) pkiFor(ctx context.Context, hosts []model.Host) (dir string, ok bool) {
	const mend = "see the checks of files and of the database; keelsond host user-data NAME makes the authority of the hosts"
	needed := false
	for i := range hosts {
		needed = needed || strings.HasPrefix(valueOf(hosts[i].LibvirtURI), "lxc+tls://")
	}
	if !needed {
		return "", true
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	// It would be made if it were not there.
	_, err := d.store.Certificate(asking, "", 0, model.CertHostCA, "")
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = errors.New("the authority of the hosts is not in the database, and no host was prepared by it")
	case err == nil:
		dir, err = d.writePKI(asking)
	}
	if err != nil {
		d.bad("hosts", mend, "this machine has no certificate for hosts: %v", err)
		return "", false
	}
	return dir, true
}

func (d *doctor) writePKI(ctx context.Context) (dir string, err error) {
	if err := d.loadKeys(); err != nil {
		return "", err
	}
	if d.certificates, err = newCA(d.cfg, d.store, d.sealer); err != nil {
		return "", err
	}
	return d.clientPKI(ctx)
}

func (d *doctor) lookAtHost(ctx context.Context, libvirt *lxc.Pool, pki string, h *model.Host) finding {
	asking, cancel := d.ask(ctx)
	defer cancel()
	uri := valueOf(h.LibvirtURI)
	switch {
	case h.State == model.HostError:
		return finding{
			"hosts", stateBad, fmt.Sprintf("%s: in error: %s", h.Name, orDash(h.Reason)),
			"see to what the reason says; then it is taken up again, or: keelsond host remove " + h.Name,
		}
	case uri == "" || h.State == model.HostEnrolled || h.State == model.HostDeploying || h.State == model.HostReleasing:
		return finding{"hosts", stateGood, fmt.Sprintf("%s: %s by Ironic", h.Name, h.State), ""}
	}
	var err error
	if simhost.IsURI(uri) {
		err = simhost.Open(uri).Probe(asking)
	} else {
		_, err = libvirt.Host(h.Name, uri).Probe(asking, d.nodeImages()...)
	}
	if err != nil {
		return finding{
			"hosts", stateBad, fmt.Sprintf("%s: %v", h.Name, err),
			"docs/hosts.md says how a host is prepared; try from here: virsh -c '" + uri + "' list --all",
		}
	}
	if strings.HasPrefix(uri, "lxc+tls://") {
		end, err := serverCertificateEnd(asking, uri, pki)
		switch {
		case err != nil:
			return finding{"hosts", stateWarning, fmt.Sprintf("%s: its certificate can not be looked at: %v", h.Name, err), "virsh -c '" + uri + "' list --all"}
		case time.Until(end) < endsSoon:
			return finding{
				"hosts", stateWarning, fmt.Sprintf("%s: its certificate ends %s", h.Name, end.Format(time.DateOnly)),
				"keelsond host user-data " + h.Name + " has a new one, for /etc/pki/libvirt on that machine",
			}
		}
	}
	says := "answers and is prepared"
	if h.Failing() {
		return finding{"hosts", stateWarning, fmt.Sprintf("%s: %s, but the last %d nodes could not be started", h.Name, says, h.Failures), "see the log of a conductor for " + h.Name}
	}
	return finding{"hosts", stateGood, h.Name + ": " + says, ""}
}

// nodeImages are the images that each host should have.
func (d *doctor) nodeImages() []string {
	var names []string
	for _, i := range d.cfg.Images.Images {
		names = append(names, i.NodeImage)
	}
	return names
}

// serverCertificateEnd tells when the certificate of the libvirt behind the URI
// ends.
func serverCertificateEnd(ctx context.Context, uri, pki string) (time.Time, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return time.Time{}, errors.New("the libvirt URI can not be read")
	}
	authority, err := os.ReadFile(filepath.Join(pki, "cacert.pem"))
	if err != nil {
		return time.Time{}, err
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(pki, "clientcert.pem"), filepath.Join(pki, "clientkey.pem"))
	if err != nil {
		return time.Time{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", u.Hostname()+":"+cmp.Or(u.Port(), "16514"))
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter, nil
}

func (d *doctor) lookAtCertificates(ctx context.Context) {
	for _, file := range []struct{ option, name, mend string }{
		{"[keystone_authtoken] cafile", d.cfg.KeystoneAuthToken.CAFile, "replace it by the authority's new certificate"},
		{"[ironic] cafile", d.cfg.Ironic.CAFile, "replace it by the authority's new certificate"},
		{"[api] ssl_cert_file", ifSet(d.cfg.API.EnabledSSL, d.cfg.API.SSLCertFile), "replace it and ssl_key_file; no restart is needed"},
	} {
		if file.name == "" {
			continue
		}
		end, err := certificateFileEnd(file.name)
		if err != nil {
			d.bad("certificates", file.mend, "%s: %v", file.option, err)
			continue
		}
		d.tellEnd(end, file.option+" "+file.name, file.mend)
	}
	if c := &d.cfg.API; c.EnabledSSL {
		if _, err := tls.LoadX509KeyPair(c.SSLCertFile, c.SSLKeyFile); err != nil {
			d.bad("certificates", "replace both by a pair", "[api] ssl_cert_file and ssl_key_file: %v", err)
		}
	}
	if !d.reachDatabase(ctx) {
		return
	}
	asking, cancel := d.ask(ctx)
	defer cancel()
	ending, err := d.store.EndingCertificates(asking, time.Now().Add(endsSoon), endingShown+1)
	if err != nil {
		d.bad("certificates", "see the check of the database", "%v", err)
		return
	}
	if len(ending) == 0 {
		d.good("certificates", "none of a cluster or of hosts ends within %d days", int(endsSoon.Hours()/24))
		return
	}
	for i, c := range ending {
		if i == endingShown {
			d.warn("certificates", "mend those above first", "and more")
			return
		}
		what, mend := fmt.Sprintf("cluster %s: %s", c.ClusterID, c.Kind), "openstack coe ca rotate "+c.ClusterID+" makes all certificates of the cluster anew"
		if c.Kind == model.CertHostCA {
			what, mend = "the authority of all hosts", "all hosts are to be prepared anew with another authority; Keelson has no command that makes one"
		}
		d.tellEnd(c.NotAfter, what, mend)
	}
}

func ifSet(set bool, text string) string {
	if set {
		return text
	}
	return ""
}

func (d *doctor) tellEnd(end time.Time, what, mend string) {
	switch left := time.Until(end); {
	case left < 0:
		d.bad("certificates", mend, "%s: ended %s", what, end.Format(time.DateOnly))
	case left < endsSoon:
		d.warn("certificates", mend, "%s: ends %s", what, end.Format(time.DateOnly))
	default:
		d.good("certificates", "%s: ends %s", what, end.Format(time.DateOnly))
	}
}

// certificateFileEnd tells when the first of the file's certificates ends.
func certificateFileEnd(name string) (time.Time, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return time.Time{}, err
	}
	var end time.Time
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("%s: %w", name, err)
		}
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	if end.IsZero() {
		return end, fmt.Errorf("%s has no certificate", name)
	}
	return end, nil
}

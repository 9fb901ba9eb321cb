// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"testing"

	"github.com/keelson/keelson/internal/fault"
)

func TestConnectURI(t *testing.T) {
	const pki = "/var/lib/keelson/a b"
	for _, c := range []struct{ uri, pki, want string }{
		{"lxc:///system", "", "lxc:///system"},
		{"lxc:///system?socket=/run/a/libvirt-sock", pki, "lxc:///system?socket=/run/a/libvirt-sock"},
		{"lxc+unix:///system?socket=/run/a/libvirt-sock", pki, "lxc+unix:///system?socket=/run/a/libvirt-sock"},
		{"lxc+tls://192.0.2.7/system", pki, "lxc+tls://192.0.2.7/system?pkipath=%2Fvar%2Flib%2Fkeelson%2Fa%20b"},
		{"lxc+tls://[2001:db8::7]:17514/system", "/pki", "lxc+tls://[2001:db8::7]:17514/system?pkipath=%2Fpki"},
		{"lxc+tls://192.0.2.7/system", "", ""},
		{"lxc+tls://192.0.2.7/system?no_verify=1", pki, ""},
		{"lxc+tls://192.0.2.7/system?pkipath=/tmp", pki, ""},
		{"lxc+tls://root@192.0.2.7/system", pki, ""},
		{"lxc+tls:///system", pki, ""},
		{"lxc://192.0.2.7/system", pki, ""},
		{"lxc+tcp://192.0.2.7/system", pki, ""},
		{"lxc+ssh://192.0.2.7/system", pki, ""},
		{"lxc+ext://192.0.2.7/system?command=/bin/sh", pki, ""},
		{"lxc+libssh2://192.0.2.7/system?known_hosts_verify=ignore", pki, ""},
		{"qemu:///system", pki, ""},
		{"://", pki, ""},
		{"", pki, ""},
	} {
		got, err := connectURI("host-1", c.uri, c.pki)
		if got != c.want || (err == nil) != (c.want != "") || (err != nil && !fault.IsPermanent(err)) {
			t.Errorf("%s: %q, %v; want %q", c.uri, got, err, c.want)
		}
	}
}

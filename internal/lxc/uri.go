// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"net/url"
	"strings"

	"github.com/keelson/keelson/internal/fault"
)

// connectURI returns what libvirt's client is to connect to: another machine
// by mutual TLS, or a socket of this one. pki is the directory of the
// conductor's certificates, empty if it has none. The error is permanent.
//
// Anything else is refused, for it would let the host or the network in
// between be someone else: libvirt's TCP, parameters like no_verify, and other
// certificates than ours.
func connectURI(host, uri, pki string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", fault.Permanent(err, "host %s has a libvirt URI that is none: correct it", host)
	}
	switch {
	case u.Scheme == "lxc" && u.Host == "", u.Scheme == "lxc+unix" && u.Host == "":
		return uri, nil
	case u.Scheme != "lxc+tls" || u.Host == "":
		return "", fault.Permanent(nil, "host %s has the libvirt URI %s: only lxc+tls:// with the host's address, or lxc:/// for this machine, may be used", host, u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fault.Permanent(nil, "host %s has the libvirt URI %s: with TLS it takes no user and no parameters", host, u.Redacted())
	case pki == "":
		return "", fault.Permanent(nil, "host %s is reached by TLS, and there is no certificate to reach it with", host)
	}
	u.RawQuery = "pkipath=" + strings.ReplaceAll(url.QueryEscape(pki), "+", "%20") // libvirt takes + for itself
	return u.String(), nil
}

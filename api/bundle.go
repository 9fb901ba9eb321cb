// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"time"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/templates/bundle"
)

// zipFile is the media type of bundles.
const zipFile = "application/zip"

// How long the certificate of a bundle may be valid.
const (
	shortestTTL = 5 * time.Minute
	longestTTL  = 365 * 24 * time.Hour
)

// makeBundle answers with a zip archive of all that a Docker client needs. The
// key is made here unless the client sends a certificate request; it is kept
// nowhere.
func (a *API) makeBundle(c *call) (response, error) {
	o := newObject(nil)
	if !c.noBody() {
		var err error
		if o, err = c.readObject(); err != nil {
			return response{}, err
		}
	}
	request := o.text("csr", 1, int(a.config.MaxBody))
	ttl := o.integer("ttl_seconds", 0)
	if err := o.done(); err != nil {
		return response{}, err
	}
	term := a.Certificates.Term()
	if seconds := or(ttl, 0); seconds > 0 {
		term = time.Duration(seconds) * time.Second
		if term < shortestTTL || term > longestTTL {
			return response{}, badRequest("Invalid input for attribute \"ttl_seconds\": it must be from %d to %d, or 0.",
				int(shortestTTL.Seconds()), int(longestTTL.Seconds()))
		}
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	if cluster.APIAddress == nil {
		return response{}, notFound("Cluster %s has no credentials yet: its status is %s. Try again when it is CREATE_COMPLETE.", cluster.Name, cluster.Status)
	}
	b := &bundle.Bundle{Cluster: cluster.Name, ClusterID: cluster.UUID, Host: *cluster.APIAddress, MadeAt: a.Now()}
	authorities := a.Certificates.Of(cluster)
	if b.CA, err = authorities.Authority(c.Context()); err != nil {
		return response{}, err
	}
	if request != nil {
		b.Certificate, err = authorities.SignFor(c.Context(), model.CertCA, []byte(*request), term)
	} else {
		b.Certificate, b.Key, err = authorities.Visitor(c.Context(), term)
	}
	if errors.Is(err, ca.ErrRequest) {
		return response{}, badRequest("Invalid input for attribute \"csr\": %s", sentence(err.Error()))
	}
	if err != nil {
		return response{}, err
	}
	if b.Expires, err = expiry(b.Certificate); err != nil {
		return response{}, err
	}
	var archive bytes.Buffer
	if err := b.WriteZip(&archive); err != nil {
		return response{}, err
	}
	return response{status: http.StatusOK, body: file{zipFile, cluster.Name + ".zip", archive.Bytes()}}, nil
}

// expiry is when a certificate (PEM) ends.
func expiry(text []byte) (time.Time, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, errors.New("the certificate is not PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return certificate.NotAfter, nil
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// authorityKind is the authority that a ca_cert_type means; any word that is
// not known means the main one.
func authorityKind(word string) string {
	switch word {
	case "etcd":
		return model.CertEtcdCA
	case "front_proxy", "front-proxy":
		return model.CertFrontProxy
	}
	return model.CertCA
}

func (a *API) showAuthority(c *call) (response, error) {
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	word := c.PathValue("kind")
	if word == "" {
		word = c.args["ca_cert_type"]
	}
	pem, err := a.Certificates.Of(cluster).AuthorityOf(c.Context(), authorityKind(word))
	if err != nil {
		return response{}, err
	}
	return ok(v1.Certificate{
		ClusterUUID: cluster.UUID, BayUUID: cluster.UUID, PEM: string(pem),
		Links: c.links("/certificates/" + cluster.UUID),
	}), nil
}

func (a *API) signCertificate(c *call) (response, error) {
	o, err := c.readObject()
	if err != nil {
		return response{}, err
	}
	ident := either(o.text("cluster_uuid", 1, maxText), o.text("bay_uuid", 1, maxText))
	request := o.required("csr", 1, int(a.config.MaxBody))
	word := or(o.text("ca_cert_type", 0, maxText), "")
	o.readOnly("links", "created_at", "updated_at")
	o.ignored("pem")
	if ident == nil {
		o.refuse("cluster_uuid", "it is required")
	}
	if err := o.done(); err != nil {
		return response{}, err
	}
	cluster, err := a.cluster(c, *ident)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		// Of all calls only this one says 400.
		return response{}, badRequest("Cluster %s (cluster_uuid) could not be found.", *ident)
	}
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(targetCluster(cluster)); err != nil {
		return response{}, err
	}
	kind, authorities := authorityKind(word), a.Certificates.Of(cluster)
	pem, err := authorities.Sign(c.Context(), kind, []byte(request))
	if errors.Is(err, store.ErrNotFound) { // the authority is made when it is first needed
		if _, err := authorities.AuthorityOf(c.Context(), kind); err != nil {
			return response{}, err
		}
		pem, err = authorities.Sign(c.Context(), kind, []byte(request))
	}
	if errors.Is(err, ca.ErrRequest) {
		return response{}, badRequest("Invalid input for attribute \"csr\": %s", sentence(err.Error()))
	}
	if err != nil {
		return response{}, err
	}
	return response{status: http.StatusCreated, body: v1.Certificate{
		ClusterUUID: cluster.UUID, BayUUID: cluster.UUID, CSR: request, PEM: string(pem), CACertType: word,
		Links: c.links("/certificates/" + cluster.UUID),
	}}, nil
}

// rotateAuthority replaces the cluster's authorities. From the answer on they
// are the new ones; the nodes follow one by one. A refusal leaves the cluster's
// status as it was.
func (a *API) rotateAuthority(c *call) (response, error) {
	if !c.noBody() {
		o, err := c.readObject()
		if err != nil {
			return response{}, err
		}
		o.ignored("cluster_uuid", "bay_uuid", "csr", "pem", "ca_cert_type")
		if err := o.done(); err != nil {
			return response{}, err
		}
	}
	cluster, err := a.permittedCluster(c)
	if err != nil {
		return response{}, err
	}
	template, err := a.templateOf(c, cluster)
	if err != nil {
		return response{}, err
	}
	if template.TLSDisabled {
		return response{}, badRequest("Rotating the CA certificate is not possible: the cluster has TLS disabled.")
	}
	if err := refusal(a.COEs.Supports(template, model.OpRotateCA)); err != nil {
		return response{}, err
	}
	operation, err := a.Store.RotateAuthorities(c.Context(), cluster.UUID, model.Status.Renewable, a.operation(c, a.config.OperationTimeout))
	if status, refused := errors.AsType[*store.StatusError](err); refused {
		return response{}, badRequest("Rotating the CA certificate is not possible when the cluster's status is %q.", status.Status)
	}
	if err != nil {
		return response{}, foundAs("Cluster", c.PathValue("ident"), err)
	}
	a.announce(c, operation)
	return accepted(v1.UUID{UUID: cluster.UUID}), nil
}

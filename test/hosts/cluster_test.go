// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cluster is a Swarm that is complete, and how its user gets in.
type cluster struct {
	*region
	name            string
	UUID            string   `json:"uuid"`
	Status          string   `json:"status"`
	StatusReason    string   `json:"status_reason"`
	MasterAddresses []string `json:"master_addresses"`
	NodeAddresses   []string `json:"node_addresses"`
	certs           string   // directory of the user's certificate
}

// create asks for a cluster.
func (r *region) create(name string, masters, workers int, labels ...string) *cluster {
	r.Helper()
	if !r.template {
		r.call("POST", "/v1/clustertemplates", object{
			"name": "swarm", "coe": "swarm-mode", "image_id": "keelson-node", "flavor_id": "m1.medium", "external_network_id": "public",
		}, nil)
		r.template = true
	}
	c := &cluster{region: r, name: name, certs: filepath.Join(r.dir, "user-"+name)}
	wanted := map[string]string{}
	for pair := range slices.Chunk(labels, 2) {
		wanted[pair[0]] = pair[1]
	}
	r.call("POST", "/v1/clusters", object{"name": name, "cluster_template_id": "swarm", "master_count": masters, "node_count": workers, "labels": wanted}, c)
	return c
}

// complete waits until the cluster is.
func (c *cluster) complete(within time.Duration) {
	c.Helper()
	c.eventually("the cluster is complete", within, func() error {
		c.call("GET", "/v1/clusters/"+c.UUID, nil, c)
		if strings.HasSuffix(c.Status, "_IN_PROGRESS") {
			return errors.New(c.Status)
		}
		return nil
	})
	if c.Status != "CREATE_COMPLETE" {
		c.Fatalf("the cluster is %s: %s", c.Status, c.StatusReason)
	}
	c.login()
}

// addresses are those of all nodes.
func (c *cluster) addresses() []string {
	return append(append([]string(nil), c.MasterAddresses...), c.NodeAddresses...)
}

// login gets a certificate for Docker.
func (c *cluster) login() {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, key)
	c.must(err)
	secret, err := x509.MarshalECPrivateKey(key)
	c.must(err)
	var authority, signed struct {
		PEM string `json:"pem"`
	}
	c.call("GET", "/v1/certificates/"+c.UUID, nil, &authority)
	c.call("POST", "/v1/certificates", object{
		"cluster_uuid": c.UUID, "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})),
	}, &signed)
	c.must(os.MkdirAll(c.certs, 0o700))
	for name, text := range map[string]string{
		"ca.pem": authority.PEM, "cert.pem": signed.PEM,
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})),
	} {
		c.must(os.WriteFile(filepath.Join(c.certs, name), []byte(text+"\n"), 0o600))
	}
}

func (c *cluster) tryDocker(node string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.Context(), "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+node+":2376", "DOCKER_CERT_PATH="+c.certs, "DOCKER_TLS_VERIFY=1")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// docker runs a command of Docker's client against a node.
func (c *cluster) docker(node string, args ...string) string {
	c.Helper()
	out, err := c.tryDocker(node, args...)
	if err != nil {
		c.Fatalf("docker %s on %s: %v\n%s", strings.Join(args, " "), node, err, out)
	}
	return out
}

// busybox puts a small image on every node.
func (c *cluster) busybox() {
	c.Helper()
	archive := filepath.Join(c.dir, "busybox.tar")
	c.run("tar", "--directory=/", "--create", "--file="+archive, "bin/busybox")
	for _, node := range c.addresses() {
		c.docker(node, "import", archive, "busybox")
	}
}

// remove deletes the cluster and waits for that.
func (c *cluster) remove() {
	c.Helper()
	c.call("DELETE", "/v1/clusters/"+c.UUID, nil, nil)
	c.eventually("the cluster is gone", time.Minute, func() error {
		var left struct {
			Clusters []cluster `json:"clusters"`
		}
		c.call("GET", "/v1/clusters", nil, &left)
		for _, other := range left.Clusters {
			if other.UUID == c.UUID {
				return errors.New(other.Status)
			}
		}
		return nil
	})
}

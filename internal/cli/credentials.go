// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/templates/bundle"
)

// Files of saved credentials; beside them are what shells load and a Docker
// context.
const (
	caFile   = bundle.CAFile
	certFile = bundle.CertFile
	keyFile  = bundle.KeyFile
	noteFile = "cluster.json" // which cluster they are for
)

// note says which cluster saved credentials are for.
type note struct {
	UUID       string `json:"uuid"`
	Name       string `json:"name"`
	DockerHost string `json:"docker_host"` // tcp://address:2376
}

// saved are credentials in a directory.
type saved struct {
	note
	dir string
}

func (a *app) credentialsCommand() *cobra.Command {
	var dir, archive string
	var force bool
	var ttl time.Duration
	c := a.printing(&cobra.Command{
		Use:     "credentials CLUSTER",
		Aliases: []string{"creds"},
		Short:   "Get a certificate for Docker on a cluster",
		Long: `Get a certificate for Docker on a cluster. The private key is made here and never leaves
this machine; the cluster's authority signs the certificate. All files are readable by you
alone. Whoever has them administers the cluster.`,
		Example: `  keelson credentials demo
  keelson credentials demo --dir ./demo
  source ./demo/docker.env; docker info
  keelson credentials demo --zip demo.zip --ttl 8h`,
		Args:              oneArgument,
		ValidArgsFunction: a.completeClusters,
	})
	c.Flags().StringVarP(&dir, "dir", "d", "", "directory for the files (default: one of keelson's own, which keelson env uses too)")
	c.Flags().StringVar(&archive, "zip", "", "write all into this zip archive instead")
	c.Flags().BoolVar(&force, "force", false, "replace credentials that are in --dir, or the archive")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long the certificate is good, such as 8h (default: as the service says)")
	_ = c.MarkFlagDirname("dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := a.api(c.Context())
		if err != nil {
			return err
		}
		cluster, err := s.cluster(c.Context(), args[0])
		if err != nil {
			return err
		}
		if archive != "" {
			return a.zip(c.Context(), s, cluster, archive, ttl, force)
		}
		if dir == "" {
			if dir, err = s.login.shelf(cluster.Name, cluster.UUID, args[0]); err != nil {
				return err
			}
		} else if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil && !force {
			return usage("there are credentials in %s already", dir).next("--force replaces them")
		}
		got, err := s.credentials(c.Context(), cluster, dir, ttl)
		if err != nil {
			return err
		}
		expires, err := got.expires()
		if err != nil {
			return err
		}
		if err := a.printRecord(struct {
			Cluster    string  `json:"cluster"`
			DockerHost string  `json:"docker_host"`
			Directory  string  `json:"directory"`
			ExpiresAt  v1.Time `json:"expires_at"`
		}{cluster.Name, got.DockerHost, got.dir, v1.Time(expires)}, "cluster", "docker_host", "directory", "expires_at"); err != nil {
			return err
		}
		a.say("Use them: %s", usual(detectShell(), cluster.Name))
		return nil
	}
	return c
}

// zip writes a bundle into an archive.
func (a *app) zip(ctx context.Context, s *service, cluster *v1.Cluster, file string, ttl time.Duration, force bool) error {
	if _, err := os.Stat(file); err == nil && !force {
		return usage("%s exists already", file).next("--force replaces it")
	}
	made, err := s.bundle(ctx, cluster, ttl)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := made.WriteZip(&content); err != nil {
		return err
	}
	if err := writePrivate(file, content.Bytes()); err != nil {
		return fmt.Errorf("saving the credentials: %w", err)
	}
	a.say("The credentials of %s are in %s; the certificate ends %s.", cluster.Name, file, made.ExpiresOn())
	return nil
}

// shelf is the directory where keelson keeps credentials of a cluster: that of
// its name, unless the user asked by uuid and the name is another cluster's.
func (l *login) shelf(name, uuid, asked string) (string, error) {
	home, err := dataHome()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(home, "keelson", "clusters", fileName(l.name)+"-"+l.fingerprint(), fileName(name))
	if n, err := readNote(dir); err == nil && n.UUID != uuid && asked == uuid {
		return dir + "-" + uuid[:min(8, len(uuid))], nil
	}
	return dir, nil
}

// onShelf finds saved credentials of a cluster by its name or uuid.
func (l *login) onShelf(ident string) (*saved, error) {
	dir, err := l.shelf(ident, "", "")
	if err != nil {
		return nil, err
	}
	candidates := []string{dir}
	if all, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); err == nil {
		candidates = append(candidates, all...)
	}
	for _, dir := range candidates {
		if n, err := readNote(dir); err == nil && (n.Name == ident || n.UUID == ident) {
			return &saved{*n, dir}, nil
		}
	}
	return nil, fs.ErrNotExist
}

// dataHome is where programs keep what their user would not want to lose.
func dataHome() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if dir := os.Getenv("LOCALAPPDATA"); dir != "" { // Windows
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usage("it is not known where to keep credentials: %v", err).next("say it with --dir")
	}
	return filepath.Join(home, ".local", "share"), nil
}

// fileName makes a name that is one path element everywhere.
func fileName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, s), ".")
}

func readNote(dir string) (*note, error) {
	text, err := os.ReadFile(filepath.Join(dir, noteFile))
	if err != nil {
		return nil, err
	}
	var n note
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, err
	}
	return &n, nil
}

// credentials has a certificate made for a new key, and saves both.
func (s *service) credentials(ctx context.Context, cluster *v1.Cluster, dir string, ttl time.Duration) (*saved, error) {
	made, err := s.bundle(ctx, cluster, ttl)
	if err != nil {
		return nil, err
	}
	files, err := made.Files()
	if err != nil {
		return nil, err
	}
	got := &saved{note{cluster.UUID, cluster.Name, made.Host}, dir}
	about, err := json.MarshalIndent(got.note, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeAll(dir, append(files, bundle.File{Name: noteFile, Content: append(about, '\n')})); err != nil {
		return nil, fmt.Errorf("saving the credentials: %w", err)
	}
	if got.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	return got, nil
}

// bundle makes a key and has it certified.
func (s *service) bundle(ctx context.Context, cluster *v1.Cluster, ttl time.Duration) (*bundle.Bundle, error) {
	if cluster.APIAddress == nil || *cluster.APIAddress == "" {
		f := &failure{code: codeFailed, message: fmt.Sprintf("cluster %s has no address yet: it is %s", cluster.Name, cluster.Status)}
		return nil, f.next("keelson get %s --wait waits until it is ready", cluster.Name)
	}
	key, request, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	made := &bundle.Bundle{Cluster: cluster.Name, ClusterID: cluster.UUID, Host: *cluster.APIAddress, Key: key, MadeAt: time.Now()}
	made.CA, made.Certificate, err = s.certify(ctx, cluster.UUID, request, ttl)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(made.Certificate)
	if block == nil {
		return nil, errors.New("the service answered with something that is no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	made.Expires = cert.NotAfter
	return made, nil
}

// certify has the request signed, by one call where the service is Keelson.
func (s *service) certify(ctx context.Context, cluster string, request []byte, ttl time.Duration) (ca, cert []byte, err error) {
	asked := v1.BundleRequest{CSR: string(request), TTLSeconds: int(ttl.Seconds())}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := s.send(ctx, http.MethodPost, clusterPath(cluster, "credentials", "bundle"), asked, http.Header{"Accept": {"application/zip"}})
	if err == nil {
		defer func() { _ = answer.Body.Close() }()
		content, err := io.ReadAll(io.LimitReader(answer.Body, maxBundle))
		if err != nil {
			return nil, nil, fmt.Errorf("reading the credentials: %w", err)
		}
		return certificatesIn(content)
	}
	if ttl != 0 || !answered(err, http.StatusNotFound) && !answered(err, http.StatusMethodNotAllowed) {
		return nil, nil, err
	}
	var authority, signed v1.Certificate
	if _, err := s.call(ctx, http.MethodGet, "/certificates/"+cluster, nil, &authority); err != nil {
		return nil, nil, err
	}
	if _, err := s.call(ctx, http.MethodPost, "/certificates", map[string]string{"cluster_uuid": cluster, "csr": string(request)}, &signed); err != nil {
		return nil, nil, err
	}
	return []byte(authority.PEM), []byte(signed.PEM), nil
}

// maxBundle is more than any bundle has, in bytes.
const maxBundle = 1 << 20

// certificatesIn takes the certificates out of a bundle; the rest is rendered
// here, where the key is.
func certificatesIn(archive []byte) (ca, cert []byte, err error) {
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, nil, fmt.Errorf("the credentials are no zip archive: %w", err)
	}
	found := map[string][]byte{}
	for _, f := range files.File {
		name := path.Base(f.Name)
		if name != bundle.CAFile && name != bundle.CertFile {
			continue
		}
		content, err := f.Open()
		if err != nil {
			return nil, nil, fmt.Errorf("the credentials: %w", err)
		}
		found[name], err = io.ReadAll(io.LimitReader(content, maxBundle))
		if err := errors.Join(err, content.Close()); err != nil {
			return nil, nil, fmt.Errorf("the credentials: %w", err)
		}
	}
	if len(found) != 2 {
		return nil, nil, errors.New("the credentials lack a certificate")
	}
	return found[bundle.CAFile], found[bundle.CertFile], nil
}

// newKey makes a private key, and the request for its certificate. The
// service decides what the certificate says.
func newKey() (key, request []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "keelson"}}, private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), nil
}

// expires is when the certificate ends.
func (s *saved) expires() (time.Time, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, certFile))
	if err != nil {
		return time.Time{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, fmt.Errorf("%s holds no certificate", filepath.Join(s.dir, certFile))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}

// Saved credentials are looked at before they are used again.
const (
	renewBefore = 10 * time.Minute // the certificate's end
	pingTimeout = 2 * time.Second
)

// errUnreachable says that the cluster did not answer, which need not be the
// credentials' fault.
var errUnreachable = errors.New("the cluster does not answer")

// check tells whether the cluster takes the credentials, and is the one that
// they are for.
func (s *saved) check(ctx context.Context) error {
	expires, err := s.expires()
	if err != nil {
		return err
	}
	if time.Until(expires) < renewBefore {
		return errors.New("the certificate has come to its end")
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, certFile), filepath.Join(s.dir, keyFile))
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(s.dir, caFile))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	at, err := url.Parse(s.DockerHost)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	transport := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+at.Host+"/_ping", nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if _, wrong := errors.AsType[*tls.CertificateVerificationError](err); wrong || strings.Contains(err.Error(), "tls:") {
			return err
		}
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the cluster answered with status %s", answer.Status)
	}
	return nil
}

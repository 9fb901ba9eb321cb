// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"archive/zip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson/keelson/internal/testenv"
)

// TestCredentials are made here, signed there, and nobody else's to read.
func TestCredentials(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("locked")
	p.must("create", "locked", "--template", "swarm", "--wait")
	p.cloud.seen()

	dir := filepath.Join(p.home, "some where")
	for range 2 {
		if got := p.must("credentials", "locked", "--dir", dir, "--force", "-f", "value", "-c", "directory"); got != dir+"\n" {
			t.Errorf("credentials printed %q", got)
		}
	}
	p.fails(2, "--force", "credentials", "locked", "--dir", dir)
	_, bodies := p.cloud.seen()
	if sent := strings.Join(bodies, ""); !strings.Contains(sent, "CERTIFICATE REQUEST") || strings.Contains(sent, "PRIVATE KEY") {
		t.Errorf("what was sent is not a request, or is a key: %s", sent)
	}

	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", f.Name(), info.Mode(), err)
		}
	}
	for _, want := range []string{"ca.pem", "cert.pem", "key.pem", "docker.env", "docker.fish", "docker.ps1", "docker.cmd", "README.md", "locked.dockercontext"} {
		if !slices.Contains(names, want) {
			t.Errorf("there are %v, without %s", names, want)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatalf("certificate and key: %v", err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the cluster's authority did not sign the certificate: %v", err)
	}

	short := filepath.Join(p.home, "short")
	p.must("credentials", "locked", "--dir", short, "--ttl", "10m")
	if pair, err = tls.LoadX509KeyPair(filepath.Join(short, "cert.pem"), filepath.Join(short, "key.pem")); err != nil || time.Until(pair.Leaf.NotAfter) > 10*time.Minute {
		t.Errorf("a certificate for ten minutes: %v", err)
	}
	archive := filepath.Join(p.home, "locked.zip")
	p.must("credentials", "locked", "--zip", archive)
	p.fails(2, "--force", "credentials", "locked", "--zip", archive)
	contents, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = contents.Close() }()
	if len(contents.File) != len(names)-1 || contents.File[0].Mode().Perm() != 0o600 {
		t.Errorf("the archive has %d files, want as many as %v without the note", len(contents.File), names)
	}
}

// engine is a server that takes one certificate, as a cluster's Docker does.
type engine struct {
	address       string
	ca, cert, key []byte
}

// newEngine starts it.
func newEngine(t *testing.T) *engine {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make := func(usage x509.ExtKeyUsage) []byte {
		about := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "engine"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})}
	e.ca, e.cert = make(x509.ExtKeyUsageServerAuth), make(x509.ExtKeyUsageClientAuth)
	server, err := tls.X509KeyPair(e.ca, e.key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(e.cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.StartTLS()
	t.Cleanup(s.Close)
	e.address = "tcp://" + s.Listener.Addr().String()
	return e
}

// save puts the engine's credentials into a directory, as keelson does.
func (p *person) save(e *engine, dir, name, uuid string) {
	p.Helper()
	note, err := json.Marshal(map[string]string{"name": name, "uuid": uuid, "docker_host": e.address})
	if err != nil {
		p.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.Fatal(err)
	}
	for file, content := range map[string][]byte{"ca.pem": e.ca, "cert.pem": e.cert, "key.pem": e.key, "cluster.json": note} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			p.Fatal(err)
		}
	}
}

// TestEnvInShells has each shell run what env prints for it, with a directory
// whose name has every sign that shells give a meaning.
func TestEnvInShells(t *testing.T) {
	p := somebody(t)
	e := newEngine(t)
	dir := filepath.Join(p.home, "it's $HOME `id` \"q\" \\n !x %PATH% ; ü*")
	p.save(e, dir, "demo", "u-1")
	// Saved credentials that are good need nobody else.
	p = p.with("OS_AUTH_URL=http://127.0.0.1:1/v3", "DIRECTORY="+dir)
	want := "1|" + e.address + "|" + dir + "|demo\n"
	const print = `printf '%s|%s|%s|%s\n' "$DOCKER_TLS_VERIFY" "$DOCKER_HOST" "$DOCKER_CERT_PATH" "$KEELSON_CLUSTER_NAME"`
	const gone = `test -z "$DOCKER_HOST$DOCKER_CERT_PATH$DOCKER_TLS_VERIFY$KEELSON_CLUSTER_NAME" && echo gone`
	for shell, script := range map[string]string{
		"bash": `set -e; eval "$(keelson env demo --dir "$DIRECTORY")"; ` + print + `; eval "$(keelson env --unset)"; ` + gone,
		"zsh":  `set -e; eval "$(keelson env demo --dir "$DIRECTORY")"; ` + print + `; eval "$(keelson env --unset)"; ` + gone,
		"sh":   `set -e; eval "$(keelson env demo --dir "$DIRECTORY")"; ` + print + `; eval "$(keelson env --unset)"; ` + gone,
		"fish": `keelson env demo --dir "$DIRECTORY" | source; ` + print + `; keelson env --unset | source; ` + gone,
	} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				testenv.Lacks(t, err.Error())
			}
			// The shell is seen to run keelson; SHELL says something else.
			c := exec.Command(path, "-c", script)
			c.Env = p.with("SHELL=/bin/nonsense").env
			c.Dir = p.home
			out, err := c.CombinedOutput()
			if err != nil || string(out) != want+"gone\n" {
				t.Errorf("%v\n%s\nwant\n%s", err, out, want)
			}
		})
	}
	if requests, _ := p.cloud.seen(); len(requests) > 1 { // of somebody
		t.Errorf("env asked the API: %v", requests)
	}
}

// TestEnvText is for the shells that this system has not.
func TestEnvText(t *testing.T) {
	p := somebody(t)
	e := newEngine(t)
	dir := filepath.Join(p.home, "it’s 'mine'")
	p.save(e, dir, "demo", "u-1")
	for shell, want := range map[string]string{
		"powershell": "$Env:DOCKER_TLS_VERIFY = '1'\n$Env:DOCKER_HOST = '" + e.address + "'\n$Env:DOCKER_CERT_PATH = '" + p.home + "/it’’s ''mine'''\n$Env:KEELSON_CLUSTER_NAME = 'demo'\n",
		"cmd":        "SET \"DOCKER_TLS_VERIFY=1\"\nSET \"DOCKER_HOST=" + e.address + "\"\nSET \"DOCKER_CERT_PATH=" + dir + "\"\nSET \"KEELSON_CLUSTER_NAME=demo\"\n",
		"tcsh":       "setenv DOCKER_TLS_VERIFY '1';\nsetenv DOCKER_HOST '" + e.address + "';\nsetenv DOCKER_CERT_PATH '" + p.home + "/it’s '\\''mine'\\''';\nsetenv KEELSON_CLUSTER_NAME 'demo';\n",
	} {
		if got := p.must("env", "demo", "--dir", dir, "--shell", shell); got != want {
			t.Errorf("%s: %q, want %q", shell, got, want)
		}
	}
}

// TestEnvRenews what the cluster does not take.
func TestEnvRenews(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("renewed")
	p.must("create", "renewed", "--template", "swarm", "--wait")
	mine, other := newEngine(t), newEngine(t)
	stranger := *mine
	stranger.ca = other.ca
	refused := *mine
	refused.cert, refused.key = other.cert, other.key
	for what, e := range map[string]*engine{"the server is another": &stranger, "the server refuses": &refused} {
		dir := filepath.Join(p.home, what)
		p.save(e, dir, "renewed", "u-2")
		if got := p.must("env", "renewed", "--dir", dir, "--shell", "sh"); !strings.Contains(got, "tcp://127.77.0.") {
			t.Errorf("%s: %s", what, got)
		}
	}

	// Without --dir they are kept where keelson finds them again, also by uuid.
	// The simulated cluster does not answer: they are good as far as one knows.
	first := p.must("env", "renewed", "--shell", "sh")
	key, err := filepath.Glob(filepath.Join(p.home, ".local/share/keelson/clusters/*/renewed/key.pem"))
	if err != nil || len(key) != 1 {
		t.Fatalf("keys %v, %v", key, err)
	}
	before, err := os.ReadFile(key[0])
	if err != nil {
		t.Fatal(err)
	}
	again := p.must("env", p.field("renewed", "uuid"), "--shell", "sh")
	after, err := os.ReadFile(key[0])
	if err != nil {
		t.Fatal(err)
	}
	if first != again || string(before) != string(after) {
		t.Errorf("asked again, credentials were made anew:\n%s%s", first, again)
	}
}

// TestCompletion is known to the shells, and knows the clusters.
func TestCompletion(t *testing.T) {
	p := somebody(t)
	p.template("swarm", "node")
	p.removed("completed")
	p.must("create", "completed", "--template", "swarm", "--wait")
	for _, args := range [][]string{{"get", ""}, {"delete", "other", ""}, {"env", ""}} {
		if got := p.must(append([]string{"__complete"}, args...)...); !strings.Contains(got, "completed\tCREATE_COMPLETE\n") {
			t.Errorf("after keelson %v come %q", args, got)
		}
	}
	if got := p.must("__complete", "create", "x", "--template", ""); !strings.Contains(got, "swarm\t") {
		t.Errorf("templates are %q", got)
	}
	if got := p.with("OS_AUTH_URL=http://127.0.0.1:1/v3").must("__complete", "get", ""); strings.Contains(got, "completed") {
		t.Errorf("without Keystone: %q", got)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Error(err)
			}
			continue
		}
		script := p.write("completion."+shell, p.must("completion", shell))
		if out, err := exec.Command(path, "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

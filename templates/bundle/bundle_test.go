// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/templates/bundle"
)

func demo() *bundle.Bundle {
	return &bundle.Bundle{
		Cluster: "demo", ClusterID: "5f2a", Host: "tcp://192.0.2.7:2376",
		CA: []byte("the authority"), Certificate: []byte("the certificate\n"), Key: []byte("the key"),
		Expires: time.Date(2027, 1, 2, 3, 4, 0, 0, time.UTC), MadeAt: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
	}
}

// unpacked writes a bundle into a directory of its own, as unzip would.
func unpacked(t *testing.T, b *bundle.Bundle) string {
	t.Helper()
	files, err := b.Files()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "it's a directory", b.Cluster)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestZipHoldsOneDirectoryForItsOwnersEyesOnly(t *testing.T) {
	var archive bytes.Buffer
	if err := demo().WriteZip(&archive); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name)
		if f.Mode() != 0o600 {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
	want := []string{"ca.pem", "cert.pem", "key.pem", "docker.env", "docker.fish", "docker.ps1", "docker.cmd", "README.md", "demo.dockercontext"}
	for i := range want {
		want[i] = "demo/" + want[i]
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestWithoutTheKeyThereIsNoContext(t *testing.T) {
	b := demo()
	b.Key = nil
	files, err := b.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name == bundle.KeyFile || f.Name == b.ContextFile() {
			t.Errorf("%s is there", f.Name)
		}
		if f.Name == "README.md" && !strings.Contains(string(f.Content), "as `key.pem`") {
			t.Errorf("the README does not say where the key belongs:\n%s", f.Content)
		}
	}
}

func TestScriptsWorkWhereverTheDirectoryIs(t *testing.T) {
	dir := unpacked(t, demo())
	const show = `; echo "$DOCKER_HOST|$DOCKER_TLS_VERIFY|$DOCKER_CERT_PATH|$KEELSON_CLUSTER_NAME|$CARINA_CLUSTER_NAME|$DOCKER_CONTEXT"`
	want := "tcp://192.0.2.7:2376|1|" + dir + "|demo|demo|\n"
	for shell, script := range map[string]string{
		"bash": `set -eu; . "$1/docker.env"; set +u`,
		"sh":   `set -eu; cd "$1"; . ./docker.env; set +u`,
		"zsh":  `set -eu; . "$1/docker.env"; set +u`,
		"fish": `source "$argv[2]/docker.fish"`,
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil && shell != "bash" && shell != "sh" {
				t.Skip("no " + shell + " here")
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", script+show, shell, dir)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "DOCKER_CONTEXT=other")
			got, err := cmd.CombinedOutput()
			if err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", shell, got, err, want)
			}
		})
	}
}

func TestNamesThatAShellMightMistakeAreRefused(t *testing.T) {
	for _, change := range []func(*bundle.Bundle){
		func(b *bundle.Bundle) { b.Cluster = "a'; rm -rf /" },
		func(b *bundle.Bundle) { b.Cluster = "../demo" },
		func(b *bundle.Bundle) { b.Cluster = "" },
		func(b *bundle.Bundle) { b.Host = "tcp://192.0.2.7:2376'$(id)" },
		func(b *bundle.Bundle) { b.Host = "" },
		func(b *bundle.Bundle) { b.Certificate = nil },
	} {
		b := demo()
		change(b)
		if files, err := b.Files(); err == nil {
			t.Errorf("%+v makes %d files", b, len(files))
		}
	}
}

func TestDockerImportsTheContext(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker client here")
	}
	dir := unpacked(t, demo())
	home := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), docker, append([]string{"--config", home}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("context", "import", "demo", filepath.Join(dir, "demo.dockercontext"))
	if got := run("context", "inspect", "demo", "--format", "{{.Endpoints.docker.Host}} {{.Endpoints.docker.SkipTLSVerify}} {{len .TLSMaterial.docker}}"); strings.TrimSpace(got) != "tcp://192.0.2.7:2376 false 3" {
		t.Errorf("the context is %q", got)
	}
}

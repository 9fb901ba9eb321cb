// SPDX-License-Identifier: Apache-2.0

// Package bundle makes the credential bundle of a cluster: the certificates
// that a Docker client needs, a script for each shell that points docker at the
// cluster, and a context that "docker context import" takes.
//
// The scripts find the certificates beside themselves, so the directory may be
// moved.
package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Names of the files with certificates, as Docker clients want them.
const (
	CAFile   = "ca.pem"
	CertFile = "cert.pem"
	KeyFile  = "key.pem"
)

// Bundle is what a client needs to work with a cluster.
type Bundle struct {
	Cluster     string // name
	ClusterID   string // uuid
	Host        string // "tcp://192.0.2.7:2376"
	CA          []byte // PEM, of the cluster's authority
	Certificate []byte // PEM, of the client
	Key         []byte // PEM; nil when the client keeps it elsewhere
	Expires     time.Time
	MadeAt      time.Time
}

// File is one file of a bundle. All of them are for their owner's eyes only
// (mode 0600).
type File struct {
	Name    string
	Content []byte
}

// What the scripts take into their text as it is.
var (
	clusterForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	hostForm    = regexp.MustCompile(`^tcp://[A-Za-z0-9.:\[\]-]+$`)
)

//go:embed *.tmpl
var texts embed.FS

var scripts = template.Must(template.ParseFS(texts, "*.tmpl"))

// scriptNames are the rendered files, in the order they are in the bundle.
var scriptNames = []string{"docker.env", "docker.fish", "docker.ps1", "docker.cmd", "README.md"}

// ContextFile is the name of the file for "docker context import".
func (b *Bundle) ContextFile() string { return b.Cluster + ".dockercontext" }

// Complete tells whether the client's key is in the bundle. One without has no
// context: put the key beside the certificate as key.pem, and the scripts work.
func (b *Bundle) Complete() bool { return len(b.Key) > 0 }

// ExpiresOn is the day in words.
func (b *Bundle) ExpiresOn() string { return b.Expires.UTC().Format("2006-01-02 15:04 UTC") }

// Files returns the files of the bundle. It refuses names and addresses that a
// shell might take for something else.
func (b *Bundle) Files() ([]File, error) {
	if !clusterForm.MatchString(b.Cluster) {
		return nil, fmt.Errorf("a cluster called %q can have no bundle", b.Cluster)
	}
	if !hostForm.MatchString(b.Host) {
		return nil, fmt.Errorf("the address %q of the cluster is not one that Docker clients take", b.Host)
	}
	if len(b.CA) == 0 || len(b.Certificate) == 0 {
		return nil, errors.New("a bundle needs the authority's certificate and the client's")
	}
	files := []File{{CAFile, ended(b.CA)}, {CertFile, ended(b.Certificate)}}
	if b.Complete() {
		files = append(files, File{KeyFile, ended(b.Key)})
	}
	for _, name := range scriptNames {
		var text bytes.Buffer
		if err := scripts.ExecuteTemplate(&text, name+".tmpl", b); err != nil {
			return nil, fmt.Errorf("render %s: %w", name, err)
		}
		content := text.Bytes()
		if strings.HasSuffix(name, ".cmd") || strings.HasSuffix(name, ".ps1") {
			content = bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
		}
		files = append(files, File{name, content})
	}
	if !b.Complete() {
		return files, nil
	}
	context, err := b.context()
	if err != nil {
		return nil, fmt.Errorf("make the Docker context: %w", err)
	}
	return append(files, File{b.ContextFile(), context}), nil
}

// ended is PEM with a newline at its end.
func ended(pem []byte) []byte {
	return append(bytes.TrimRight(pem, "\n"), '\n')
}

// WriteZip writes the bundle as a zip archive with one directory in it, named
// after the cluster.
func (b *Bundle) WriteZip(w io.Writer) error {
	files, err := b.Files()
	if err != nil {
		return err
	}
	archive := zip.NewWriter(w)
	for _, f := range files {
		header := &zip.FileHeader{Name: b.Cluster + "/" + f.Name, Method: zip.Deflate, Modified: b.MadeAt}
		header.SetMode(0o600)
		entry, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := entry.Write(f.Content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// context is a tar archive as "docker context export" writes it.
func (b *Bundle) context() ([]byte, error) {
	meta, err := json.Marshal(map[string]any{
		"Name":     b.Cluster,
		"Metadata": map[string]any{"Description": "Keelson cluster " + b.Cluster},
		"Endpoints": map[string]any{
			"docker": map[string]any{"Host": b.Host, "SkipTLSVerify": false},
		},
	})
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range []File{
		{"meta.json", meta},
		{"tls", nil},
		{"tls/docker", nil},
		{"tls/docker/" + CAFile, ended(b.CA)},
		{"tls/docker/" + CertFile, ended(b.Certificate)},
		{"tls/docker/" + KeyFile, ended(b.Key)},
	} {
		header := &tar.Header{Name: f.Name, Mode: 0o600, Size: int64(len(f.Content)), ModTime: b.MadeAt, Typeflag: tar.TypeReg}
		if f.Content == nil {
			header.Typeflag, header.Mode = tar.TypeDir, 0o700
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

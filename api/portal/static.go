// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var staticFiles embed.FS

// static is a file that pages load. Its address changes with its content, so
// browsers keep it for good.
type static struct {
	version, kind string
	plain, packed []byte
}

var statics = loadStatics()

func loadStatics() map[string]*static {
	all := map[string]*static{}
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		content, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		kind := mime.TypeByExtension(path.Ext(e.Name()))
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		all[e.Name()] = &static{version: hex.EncodeToString(sum[:6]), kind: kind, plain: content, packed: pack(content)}
	}
	return all
}

// asset is the address of a file below the portal's own.
func asset(name string) string { return "/static/" + name + "?v=" + statics[name].version }

func serveStatic(w http.ResponseWriter, r *http.Request) {
	file := statics[r.URL.Path]
	if file == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Vary", "Accept-Encoding")
	if r.URL.Query().Get("v") == file.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	body := file.plain
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = file.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the browser may be gone
}

var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func pack(plain []byte) []byte {
	var packed bytes.Buffer
	z := packers.Get().(*gzip.Writer)
	defer packers.Put(z)
	z.Reset(&packed)
	// Writing to memory does not fail.
	_, _ = z.Write(plain)
	_ = z.Close()
	return packed.Bytes()
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" && strings.ReplaceAll(weight, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// send writes a page, packed if the browser can unpack it.
func send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding, HX-Request")
	if takesGzip(r) && len(body) > 1024 {
		h.Set("Content-Encoding", "gzip")
		body = pack(body)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the browser may be gone
}

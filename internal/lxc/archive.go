// SPDX-License-Identifier: Apache-2.0

package lxc

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

// archive packs files for the host's lxc hook: plain files with relative
// paths, in the order of their paths, the same bytes for the same files. Behind
// the tar archive stands its SHA-256 in hex, by which the hook knows that it is
// whole.
func archive(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })

	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     strings.TrimPrefix(f.Path, "/"),
			Mode:     int64(f.Mode),
			Size:     int64(len(f.Content)),
			ModTime:  time.Unix(0, 0),
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack the node's files: %w", err)
	}
	return fmt.Appendf(buffer.Bytes(), "%x", sha256.Sum256(buffer.Bytes())), nil
}

// SPDX-License-Identifier: Apache-2.0

// Package templates carries what is rendered onto machines, so that the server
// binary needs no files beside it.
package templates

import (
	"embed"
	"io/fs"
)

//go:embed host
var files embed.FS

// Host returns the files that make a machine a Keelson host: prepare.sh,
// unprepare.sh, lxc-hook, confine and walls.nft.
func Host() fs.FS {
	host, err := fs.Sub(files, "host")
	if err != nil {
		panic(err) // the pattern above names it
	}
	return host
}

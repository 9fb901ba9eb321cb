// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/config"
)

// scarceDisk is the share of a disk that should be free.
const scarceDisk = 0.05

func (d *doctor) lookAtFiles(context.Context) {
	for _, name := range d.configFiles() {
		switch info, err := os.Stat(name); {
		case err != nil:
			d.bad("files", "see that "+name+" exists and that this user may read it", "configuration: %v", err)
		case info.Mode().Perm()&0o002 != 0:
			d.bad("files", "chmod o-w "+name, "configuration: everyone may change %s (mode %04o)", name, info.Mode().Perm())
		case info.Mode().Perm()&0o004 != 0:
			d.warn("files", "chmod 0640 "+name+", with a group that keelsond runs in", "configuration: everyone may read %s (mode %04o), and passwords in it", name, info.Mode().Perm())
		default:
			d.good("files", "configuration: %s", name)
		}
	}
	for _, option := range slices.Sorted(maps.Keys(d.cfg.SecretFiles)) {
		file := d.cfg.SecretFiles[option]
		if !filepath.IsAbs(file) {
			continue // a credential of systemd's
		}
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o007 != 0 {
			d.bad("files", "chmod 0600 "+file, "%s: others can get at %s (mode %04o)", option, file, info.Mode().Perm())
		} else if err == nil {
			d.good("files", "%s: %s", option, file)
		}
	}
	d.lookAtStatePath()
	key := d.cfg.X509.MasterKeyFile
	if err := d.loadKeys(); err != nil {
		d.bad("files", "copy the file of another machine of this cloud, with mode 0600; only for a new cloud: keelsond master-key create", "%v", err)
		return
	}
	d.good("files", "master keys: %s has %d", key, len(d.sealer.KeyIDs()))
}

// loadKeys reads the master keys, unless that has been done.
func (d *doctor) loadKeys() (err error) {
	if d.sealer == nil {
		d.sealer, err = ca.LoadKeyFile(d.cfg.X509.MasterKeyFile)
	}
	return err
}

// configFiles are those that the configuration was read from.
func (d *doctor) configFiles() []string {
	files, dirs := d.sources.Files, d.sources.Dirs
	if len(files)+len(dirs) == 0 {
		if _, err := os.Stat(config.DefaultFile); err == nil {
			files = []string{config.DefaultFile}
		}
		dirs = []string{config.DefaultDir}
	}
	all := slices.Clone(files)
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // what can not be read was an error when the configuration was loaded
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") {
				all = append(all, filepath.Join(dir, e.Name()))
			}
		}
	}
	return all
}

func (d *doctor) lookAtStatePath() {
	dir := d.cfg.StatePath
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "stat", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		d.bad("files", "install -d -m 0700 -o keelson -g keelson "+dir, "state_path: %v", err)
		return
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	sound := true
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		sound = false
		d.bad("files", "chmod 0700 "+dir, "state_path: others may write to %s (mode %04o)", dir, mode)
	}
	if me := os.Geteuid(); owner != me {
		sound = false
		d.warn("files", fmt.Sprintf("run this as the user that keelsond runs as (runuser -u keelson -- keelsond doctor); if you did: chown -R %d %s", me, dir),
			"state_path: %s belongs to user %d, and this runs as user %d", dir, owner, me)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		sound = false
		d.bad("files", fmt.Sprintf("chown %d %s; chmod 0700 %s", os.Geteuid(), dir, dir), "state_path: %s can not be written to: %v", dir, err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err == nil && disk.Blocks > 0 {
		if free := float64(disk.Bavail) / float64(disk.Blocks); free < scarceDisk {
			sound = false
			d.warn("files", "make room on it", "state_path: the disk of %s is full but for %.1f %%", dir, 100*free)
		}
	}
	if sound {
		d.good("files", "state_path: %s", dir)
	}
}

func (d *doctor) lookAtPolicy(context.Context) {
	if _, err := loadPolicy(d.cfg, d.log); err != nil {
		d.bad("policy", "correct the file; keelsond policy sample prints every rule, keelsond policy check those in force", "%v", err)
		return
	}
	file := d.cfg.OsloPolicy.PolicyFile
	if _, err := os.Stat(file); err != nil {
		file = "the built-in policy"
	}
	d.good("policy", "%s can be used", file)
}

func orDefault(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

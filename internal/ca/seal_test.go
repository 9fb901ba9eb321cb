// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSealAndOpen(t *testing.T) {
	s := newSealer(t)
	sealed := s.Seal([]byte("secret"), "cluster", "ca")
	if got, err := s.Open(sealed, "cluster", "ca"); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	if bytes.Equal(sealed, s.Seal([]byte("secret"), "cluster", "ca")) {
		t.Error("the same nonce twice")
	}
	if _, err := newSealer(t).Open(sealed, "cluster", "ca"); err == nil {
		t.Error("another master key opened it")
	}
	for _, context := range [][]string{{"cluster", "etcd_ca"}, {"other", "ca"}, {"clusterca"}, {"cluster", "ca", ""}, nil} {
		if _, err := s.Open(sealed, context...); err == nil {
			t.Errorf("opened in the context %q", context)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open(changed, "cluster", "ca"); err == nil {
			t.Errorf("opened although byte %d was changed", i)
		}
		if _, err := s.Open(sealed[:i], "cluster", "ca"); err == nil {
			t.Errorf("opened although cut off at %d", i)
		}
	}
}

func TestANewKeySealsAndTheOldOneStillOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	before, err := LoadOrCreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := before.Seal([]byte("old"))
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content := append([]byte("# the newest key comes first\n"), append(NewKeyLine(), line...)...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := after.Open(old); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if _, id, _ := sealedWith(after.Seal([]byte("new"))); id == before.KeyID() {
		t.Error("the old key still seals")
	}
	// A process that read the file before finds the new key by itself.
	if got, err := before.Open(after.Seal([]byte("new"))); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKeyFileIsMadeOnceAndForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	var wg sync.WaitGroup
	sealers := make([]*Sealer, 8)
	for i := range sealers {
		wg.Go(func() { sealers[i], _ = LoadOrCreateKeyFile(path) })
	}
	wg.Wait()
	for _, s := range sealers {
		if s == nil || s.KeyID() != sealers[0].KeyID() {
			t.Fatal("two starts made two keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".master-key-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyFile(path); err == nil {
		t.Error("a file that everyone may read was taken")
	}
	if _, err := LoadKeyFile(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file was taken")
	}
}

func TestBadKeyFilesAreNamedWithoutTheirContent(t *testing.T) {
	good := string(NewKeyLine())
	for name, content := range map[string]string{
		"empty":     "\n# nothing\n",
		"no id":     strings.Fields(good)[1] + "\n",
		"short key": "k1 c2hvcnQ=\n",
		"no base64": "k1 SECRETSECRET!\n",
		"twice":     good + good,
	} {
		_, err := parseKeys([]byte(content))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), strings.Fields(good)[1]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

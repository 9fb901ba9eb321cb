// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
)

// sealVersion is the first byte of everything sealed. Next come one byte with
// the length of the master key's id, the id, the nonce and the ciphertext.
const sealVersion = 1

const masterKeySize = 32 // AES-256

// Sealer encrypts secrets for the database with AES-256-GCM under a master
// key. What is sealed names the key it was sealed with, so a new key can be
// put first in the key file while the old ones still open what they sealed.
//
// The file may change while the Sealer is in use, see Reload.
//
// It may be used from several goroutines at once.
type Sealer struct {
	path string
	ring atomic.Pointer[keyring]
}

// keyring is what a key file holds.
type keyring struct {
	current string   // id of the key that seals
	ids     []string // in the order of the file
	keys    map[string]cipher.AEAD
	from    os.FileInfo // nil when it was not read from a file
}

// KeyID returns the id of the key that seals.
func (s *Sealer) KeyID() string { return s.ring.Load().current }

// KeyIDs returns the ids of all keys in the order of the file: the first one
// seals.
func (s *Sealer) KeyIDs() []string { return slices.Clone(s.ring.Load().ids) }

// Reload reads the key file again if it has changed, or anyhow, and tells
// whether it did. When the file can not be used all stays as it was.
func (s *Sealer) Reload(anyhow bool) (changed bool, err error) {
	old := s.ring.Load()
	if info, err := os.Stat(s.path); err == nil && !anyhow && old.from != nil &&
		os.SameFile(info, old.from) && info.ModTime().Equal(old.from.ModTime()) && info.Size() == old.from.Size() {
		return false, nil
	}
	ring, err := readKeyFile(s.path)
	if err != nil {
		return false, err
	}
	s.ring.Store(ring)
	return true, nil
}

// LoadKeyFile reads the master keys. Each line holds a key's id, white space
// and the key: 32 bytes in base64. The first key seals, all of them open;
// empty lines and lines that begin with # are skipped. A file that everyone
// may read is refused.
func LoadKeyFile(path string) (*Sealer, error) {
	ring, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	s := &Sealer{path: path}
	s.ring.Store(ring)
	return s, nil
}

func readKeyFile(path string) (*keyring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("master key file %s has mode %04o, others can get at it: chmod 0600 it", path, info.Mode().Perm())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	ring, err := parseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", path, err)
	}
	ring.from = info
	return ring, nil
}

// LoadOrCreateKeyFile is LoadKeyFile, and makes the file with one random key
// and mode 0600 when it does not exist. Of several processes that do so at
// once, one makes the file and all read that one.
func LoadOrCreateKeyFile(path string) (*Sealer, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createKeyFile(path); err != nil {
			return nil, fmt.Errorf("make master key file: %w", err)
		}
	}
	return LoadKeyFile(path)
}

// createKeyFile writes the file under another name first and links it into
// place, so that nobody reads half a key and nobody's key is overwritten.
func createKeyFile(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".master-key-*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(NewKeyLine()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// NewKeyLine returns a line with a new random key, as a key file has them.
func NewKeyLine() []byte {
	var id [4]byte
	var key [masterKeySize]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	rand.Read(key[:])
	return fmt.Appendf(nil, "%s %s\n", hex.EncodeToString(id[:]), base64.StdEncoding.EncodeToString(key[:]))
}

func parseKeys(content []byte) (*keyring, error) {
	s := &keyring{keys: map[string]cipher.AEAD{}}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		// The errors name the line only: its content is secret.
		if len(fields) != 2 || len(fields[0]) > 255 {
			return nil, fmt.Errorf("line %d is not a key id and a key", n)
		}
		id := fields[0]
		key, err := base64.StdEncoding.DecodeString(fields[1])
		if err != nil || len(key) != masterKeySize {
			return nil, fmt.Errorf("line %d: the key is not %d bytes in base64", n, masterKeySize)
		}
		if _, twice := s.keys[id]; twice {
			return nil, fmt.Errorf("line %d: key id %s is there twice", n, id)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		if s.keys[id], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		s.ids = append(s.ids, id)
	}
	if len(s.ids) == 0 {
		return nil, errors.New("no key in it")
	}
	s.current = s.ids[0]
	return s, nil
}

// Seal encrypts a secret. The context says whose secret it is, "cluster uuid",
// "ca", for instance: it is not kept, and the same one must be given to Open,
// so that a sealed secret put into another row does not open.
func (s *Sealer) Seal(secret []byte, context ...string) []byte {
	ring := s.ring.Load()
	aead := ring.keys[ring.current]
	sealed := append([]byte{sealVersion, byte(len(ring.current))}, ring.current...)
	header := len(sealed)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	sealed = append(sealed, nonce...)
	return aead.Seal(sealed, nonce, secret, associated(sealed[:header], context))
}

// errUnknownForm: it was not made by Seal.
var errUnknownForm = errors.New("open sealed secret: unknown form")

// sealedWith returns the header of something sealed, and the id of the key.
func sealedWith(sealed []byte) (header []byte, id string, err error) {
	if len(sealed) < 2 || sealed[0] != sealVersion || len(sealed) < 2+int(sealed[1]) {
		return nil, "", errUnknownForm
	}
	header = sealed[:2+int(sealed[1])]
	return header, string(header[2:]), nil
}

// Open decrypts what Seal made in the same context. A key that is not known
// yet is looked for in the key file, should that have changed.
func (s *Sealer) Open(sealed []byte, context ...string) ([]byte, error) {
	header, id, err := sealedWith(sealed)
	if err != nil {
		return nil, err
	}
	rest := sealed[len(header):]
	aead, ok := s.ring.Load().keys[id]
	if !ok {
		if _, err := s.Reload(false); err == nil {
			aead, ok = s.ring.Load().keys[id]
		}
	}
	if !ok {
		return nil, fmt.Errorf("open sealed secret: master key %q is not in the key file", header[2:])
	}
	if len(rest) < aead.NonceSize() {
		return nil, errors.New("open sealed secret: too short")
	}
	nonce, ciphertext := rest[:aead.NonceSize()], rest[aead.NonceSize():]
	secret, err := aead.Open(nil, nonce, ciphertext, associated(header, context))
	if err != nil {
		return nil, errors.New("open sealed secret: it was changed, or belongs to something else")
	}
	return secret, nil
}

// associated binds the header and the context to the ciphertext. Each part is
// preceded by its length: "ab","c" is not "a","bc".
func associated(header []byte, context []string) []byte {
	data := bytes.Clone(header)
	for _, part := range context {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return data
}

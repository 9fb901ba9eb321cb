// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// credentialsDirectory is the variable in which systemd tells a service where
// its credentials (LoadCredential=) are.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// largestSecret bounds what is read of a secret's file, in bytes.
const largestSecret = 64 << 10

// readSecretsFromFiles declares for each secret of the group a twin that names
// a file with the secret in it, so that the configuration itself need not be
// secret.
func (c *Config) readSecretsFromFiles(g *group) {
	for i := 0; i < len(g.options); i++ {
		secret := g.options[i]
		if !secret.secret {
			continue
		}
		id := g.name + "/" + secret.name
		twin := g.single(secret.name+"_file", "string value", "",
			"File that holds "+secret.name+", instead of that option. White space at its end does not count. A name without a slash is a credential of systemd (LoadCredential=).",
			func(path string) error {
				if path == "" {
					delete(c.SecretFiles, id)
					return nil
				}
				if c.SecretFiles == nil {
					c.SecretFiles = map[string]string{}
				}
				c.SecretFiles[id] = path
				return nil
			},
			func() string { return c.SecretFiles[id] }).
			must(credentialPath)
		secret.file = twin
		shown := secret.text
		secret.text = func() []string {
			if c.SecretFiles[id] != "" { // or what is shown could not be read again
				return []string{""}
			}
			return shown()
		}
		i++
		g.options = slices.Insert(g.options[:len(g.options)-1], i, twin)
	}
}

// credentialPath: an absolute file name, or the name of a systemd credential.
func credentialPath(v string) error {
	if strings.Contains(v, "/") && !strings.HasPrefix(v, "/") || v == "." || v == ".." {
		return errors.New("must be an absolute path, or the name of a systemd credential")
	}
	return nil
}

// fillFromFile stores what the file of a secret holds, if one is named, and
// tells whether all was right. The text is taken as it is: no $substitution.
func (l *loader) fillFromFile(s *substitution, o *option) bool {
	name := o.file.text()[0]
	if name == "" {
		return true
	}
	given := s.values[o.file]
	blame := func(rule string) bool {
		l.fault(Fault{given[len(given)-1].source, o.group, o.file.name, rule})
		return false
	}
	if direct := s.values[o][len(s.values[o])-1]; direct.source != "default" && direct.text != "" {
		return blame("must not be set beside " + o.name)
	}
	path := name
	if !filepath.IsAbs(path) {
		dir := l.credentials
		if dir == "" {
			return blame("names a systemd credential, but " + credentialsDirectory + " is not set")
		}
		path = filepath.Join(dir, name)
	}
	text, err := readSecret(path)
	if err != nil {
		return blame(fmt.Sprintf("%s can not be read: %v", path, err))
	}
	if text == "" {
		return blame(path + " is empty")
	}
	for _, err := range o.store([]string{text}) {
		return blame("what is in " + path + " " + err.Error())
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		l.warnings = append(l.warnings, Warning{given[len(given)-1].source, o.group, o.file.name, fmt.Sprintf("others can get at %s: chmod o= it", path)})
	}
	return true
}

// readSecret returns the text of a file; the error does not repeat its name.
func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if err == nil && len(text) > largestSecret {
		err = fmt.Errorf("it has more than %d bytes", largestSecret)
	}
	return strings.TrimRight(string(text), " \t\r\n"), err
}

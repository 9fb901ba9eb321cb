// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secretFile writes a file that holds a secret.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsComeFromFiles(t *testing.T) {
	database := secretFile(t, "mysql://keelson:pa$$word$x@db/keelson\n")
	password := secretFile(t, "of the service\n")
	c := mustLoad(t, "[database]\nconnection_file = "+database+"\n[keystone_authtoken]\nauth_url = http://keystone/v3\npassword_file = keystone\n",
		"CREDENTIALS_DIRECTORY="+filepath.Dir(password), "OS_KEYSTONE_AUTHTOKEN__PASSWORD_FILE=secret")
	equal(t, "connection: as it is, without the newline", c.Database.Connection.Reveal(), "mysql://keelson:pa$$word$x@db/keelson")
	equal(t, "password: a systemd credential", c.KeystoneAuthToken.Password.Reveal(), "of the service")

	var shown bytes.Buffer
	if err := WriteShow(&shown, c); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"connection =\n", "connection_file = " + database + "\n", "password_file = secret\n"} {
		if !strings.Contains(shown.String(), "\n"+line) {
			t.Errorf("config show has no line %q", line)
		}
	}
}

func TestFilesOfSecretsThatAreWrong(t *testing.T) {
	good, empty, wrong := secretFile(t, "sqlite:////x"), secretFile(t, " \n"), secretFile(t, "postgresql://keelson:topsecret@db/x")
	for _, row := range []struct{ text, fault string }{
		{"connection = sqlite:////y\nconnection_file = " + good, "keelson.conf:3: [database] connection_file: must not be set beside connection"},
		{"connection_file = " + empty, "keelson.conf:2: [database] connection_file: " + empty + " is empty"},
		{"connection_file = " + wrong, "keelson.conf:2: [database] connection_file: what is in " + wrong + " must start with mysql+pymysql:// or mysql:// or sqlite://"},
		{"connection_file = /nowhere/at/all", "keelson.conf:2: [database] connection_file: /nowhere/at/all can not be read: no such file or directory"},
		{"connection_file = some/where", "keelson.conf:2: [database] connection_file: must be an absolute path, or the name of a systemd credential"},
		{"connection_file = credential", "keelson.conf:2: [database] connection_file: names a systemd credential, but CREDENTIALS_DIRECTORY is not set"},
	} {
		_, _, err := loadText("[database]\n" + row.text)
		if err == nil {
			t.Errorf("%q was taken", row.text)
			continue
		}
		equal(t, row.text, rules(t, err), []string{row.fault})
	}
}

func TestFileOfASecretThatEverybodyReadsIsWarnedOf(t *testing.T) {
	open := secretFile(t, "sqlite:////x")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings, err := loadText("[database]\nconnection_file = " + open)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].String(), "others can get at "+open) {
		t.Errorf("%v, %v", warnings, err)
	}
}

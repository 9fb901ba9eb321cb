// SPDX-License-Identifier: Apache-2.0

// Package testenv tells tests where the real parts are that `make test`
// started: MariaDB, RabbitMQ, Keystone, Ironic and libvirt.
package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Names of the environment variables that point at the real parts.
const (
	MariaDB          = "KEELSON_TEST_MARIADB"           // Go MySQL DSN without a database name: "root@unix(/sock)/"
	RabbitMQ         = "KEELSON_TEST_RABBITMQ"          // "rabbit://user:pass@127.0.0.1:5673/"
	Keystone         = "KEELSON_TEST_KEYSTONE"          // "http://127.0.0.1:5000/v3"
	KeystonePassword = "KEELSON_TEST_KEYSTONE_PASSWORD" // of user admin, project admin, domain Default
	Ironic           = "KEELSON_TEST_IRONIC"            // "http://127.0.0.1:6385", no authentication
	Libvirt          = "KEELSON_TEST_LIBVIRT"           // "lxc:///system?socket=…"
	NodeImage        = "KEELSON_TEST_NODE_IMAGE"        // name of the node image on the host behind Libvirt
	NextImage        = "KEELSON_TEST_NODE_IMAGE_NEXT"   // name of another one there, with another Docker version
	Images           = "KEELSON_TEST_IMAGES"            // directory of node images on this machine
	CloudInit        = "KEELSON_TEST_CLOUD_INIT"        // directory with the unpacked package of that name
	Bridge           = "KEELSON_TEST_BRIDGE"            // the bridge of that host
	BridgeCIDR       = "KEELSON_TEST_BRIDGE_CIDR"       // its address and network, a /16: "10.99.0.1/16"
	Endpoint         = "KEELSON_TEST_ENDPOINT"          // where Keystone's catalogue has container-infra
	State            = "KEELSON_TEST_STATE"             // state directory of the lab
)

// Require returns the variable's value. Without it the test fails in CI and is
// skipped elsewhere: a part that is missing in CI is a defect of CI.
func Require(tb testing.TB, name string) string {
	tb.Helper()
	v := os.Getenv(name)
	if v == "" {
		Lacks(tb, name+" is not set: run through `make test`, or `make lab-up` and source the file it prints")
	}
	return v
}

// Lacks ends a test that can not run here: it fails in CI and is skipped
// elsewhere.
func Lacks(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}

// AwaitNextImage returns the name of NextImage. The lab may still be building
// it: then it waits until that has come to an end. When the build failed, the
// host says that it has no such image; the cause is in the lab's
// log/image-next.log.
func AwaitNextImage(tb testing.TB) string {
	tb.Helper()
	name := Require(tb, NextImage)
	// The lab's note of a process: its id and the kernel's time of its start.
	note, err := os.ReadFile(filepath.Join(os.Getenv(State), "pids", "image-next"))
	pid, began, _ := strings.Cut(strings.TrimSpace(string(note)), " ")
	if err != nil || began == "" {
		return name // there when the lab was started
	}
	building := func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		return err == nil && len(fields) > 19 && fields[0] != "Z" && fields[19] == began
	}
	deadline := time.Now().Add(10 * time.Minute)
	for building() {
		if time.Now().After(deadline) {
			tb.Fatalf("the lab is still building node image %s after ten minutes", name)
		}
		time.Sleep(200 * time.Millisecond)
	}
	return name
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The stack of front, app and data, as a compose file. Only app is in both
// networks. IPVS is not everywhere, so names lead to tasks.
const composeFile = `
version: "3.8"
services:
  web:
    image: busybox
    command: sh -c 'mkdir -p /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www'
    networks: [front]
    deploy: {endpoint_mode: dnsrr}
  app:
    image: busybox
    command: sleep 1000000
    networks: [front, back]
    deploy: {endpoint_mode: dnsrr}
  db:
    image: busybox
    command: sh -c 'echo kept >/data/file; exec sleep 1000000'
    networks: [back]
    volumes: ["data:/data"]
    deploy: {endpoint_mode: dnsrr}
networks:
  front: {driver: overlay, attachable: true}
  back: {driver: overlay, attachable: true}
volumes:
  data: {}
`

// user is somebody at a shell with keelson and Docker's tools.
type user struct {
	*cloud
	env []string
	dir string
}

// newUser builds keelson and is the user demo.
func newUser(c *cloud) *user {
	c.Helper()
	dir := c.TempDir()
	if out, err := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-buildvcs=false", "-o", filepath.Join(dir, "keelson"), "../../cmd/keelson").CombinedOutput(); err != nil {
		c.Fatalf("building keelson: %v\n%s", err, out)
	}
	// What docker-compose 1.29 is built on would take these for the cluster's authority.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "REQUESTS_CA_BUNDLE=") || strings.HasPrefix(v, "CURL_CA_BUNDLE=")
	})
	return &user{cloud: c, dir: dir, env: append(env, "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"),
		"OS_AUTH_URL="+c.keystone, "OS_USERNAME=demo", "OS_PASSWORD="+c.password, "OS_PROJECT_NAME=demo", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default")}
}

// try runs a script; sh runs one that has to succeed.
func (u *user) try(script string) (string, error) {
	cmd := exec.CommandContext(u.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Env, cmd.Dir = u.env, u.dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (u *user) sh(script string) string {
	u.Helper()
	out, err := u.try(script)
	if err != nil {
		u.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// becomes waits until the script prints that.
func (u *user) becomes(want, script string) {
	u.Helper()
	u.eventually(script, 30*time.Second, func() error {
		out, err := u.try(script)
		if err == nil && out != want {
			err = fmt.Errorf("%q, want %q", out, want)
		}
		return err
	})
}

// TestDockersOwnToolsOverTheBundle has a cluster made and pointed at by
// keelson, and then used with docker, docker-compose 1.29 (and docker compose
// v2 where it is installed) and docker stack deploy.
func TestDockersOwnToolsOverTheBundle(t *testing.T) {
	c := newCloud(t, settings{})
	c.start("all-in-one")
	c.template()
	u := newUser(c)
	u.sh("keelson create tools --template swarm --nodes 1 --wait")
	u.sh("keelson credentials tools --dir bundle")
	defer func() { u.sh("keelson delete tools --yes --wait"); c.nothingLeft() }()

	if got := u.sh(`eval "$(keelson env tools)"; docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Nodes}}'`); got != "active 2" {
		t.Errorf("docker info: %q", got)
	}
	// The scripts of the bundle and the context do the same.
	if got := u.sh(`source bundle/docker.env; docker node ls --format '{{.Status}}'`); got != "Ready\nReady" {
		t.Errorf("docker node ls: %q", got)
	}
	if got := u.sh(`docker context import tools bundle/tools.dockercontext >/dev/null 2>&1; docker --context tools node ls --format '{{.Status}}'`); got != "Ready\nReady" {
		t.Errorf("docker over the context: %q", got)
	}
	const env = `source bundle/docker.env; `
	addresses := strings.Fields(u.sh("keelson nodes tools -f value -c address"))
	if len(addresses) != 2 {
		t.Fatalf("nodes have the addresses %v, want two", addresses)
	}
	// With the directory: Docker makes one that the archive leaves out with mode
	// 0600, which nobody without capabilities can look into.
	u.sh("mkdir -p image/bin && cp /bin/busybox image/bin && tar --directory=image --owner=0 --group=0 --create --file=busybox.tar bin")
	for _, a := range addresses {
		u.sh(env + "docker -H tcp://" + a + ":2376 import --change 'ENV PATH=/bin' --change 'CMD [\"busybox\", \"sh\"]' busybox.tar raw >/dev/null && " +
			"printf 'FROM raw\\nRUN [\"busybox\", \"--install\", \"-s\", \"/bin\"]\\n' | docker -H tcp://" + a + ":2376 build -q -t busybox - >/dev/null")
	}

	t.Run("volumes", func(t *testing.T) {
		u := u.in(t)
		u.sh(env + "docker volume create kept; docker run --rm -v kept:/data busybox sh -c 'echo hello >/data/file'")
		if got := u.sh(env + "docker run --rm -v kept:/data busybox cat /data/file"); got != "hello" {
			t.Errorf("in the named volume is %q", got)
		}
		u.sh(env + "docker create --name box -v /data busybox true; docker run --rm --volumes-from box busybox sh -c 'echo there >/data/file'")
		if got := u.sh(env + "docker run --rm --volumes-from box busybox cat /data/file"); got != "there" {
			t.Errorf("in the data-volume container is %q", got)
		}
		u.sh(env + "docker rm -v box; docker volume rm kept")
	})

	composes := []string{"docker-compose"}
	if _, err := exec.Command("docker", "compose", "version").CombinedOutput(); err == nil {
		composes = append(composes, "docker compose")
	}
	c.must(os.WriteFile(filepath.Join(u.dir, "docker-compose.yml"), []byte(composeFile), 0o600))
	for _, compose := range composes {
		t.Run(compose, func(t *testing.T) {
			u := u.in(t)
			u.sh(env + compose + " -p made up -d 2>&1")
			exec := env + compose + " -p made exec -T "
			u.becomes("kept", exec+"db cat /data/file 2>/dev/null")
			u.separated(func(service, command string) (string, error) { return u.try(exec + service + " " + command) })
			// Docker lets go of an overlay network some time after its last
			// container is gone; until then down fails, and is to be repeated.
			u.eventually(compose+" takes all of it down", 30*time.Second, func() error {
				out, err := u.try(env + compose + " -p made down -v 2>&1")
				if err != nil {
					return fmt.Errorf("%w\n%s", err, out)
				}
				return nil
			})
		})
	}

	t.Run("refusals", func(t *testing.T) { u.in(t).refused(env) })

	t.Run("docker stack deploy", func(t *testing.T) {
		u := u.in(t)
		u.sh(env + "docker stack deploy --resolve-image never -c docker-compose.yml stack 2>&1")
		u.becomes("1/1\n1/1\n1/1", env+"docker stack services stack --format '{{.Replicas}}'")
		// Tasks are on any node: each node's own Docker is asked.
		u.separated(func(service, command string) (string, error) {
			return u.try(env + `for a in ` + strings.Join(addresses, " ") + `; do
				id=$(docker -H tcp://$a:2376 ps -q --filter label=com.docker.swarm.service.name=stack_` + service + `)
				[ -z "$id" ] || exec docker -H tcp://$a:2376 exec "$id" ` + command + `
			done; exit 9`)
		})
		u.sh(env + "docker stack rm stack 2>&1")
		u.becomes("", env+"docker ps -q --filter label=com.docker.stack.namespace=stack")
	})

	t.Run("docker rm -f of everything", func(t *testing.T) { u.in(t).swept(env, addresses) })
}

// refused wants the node's Docker to refuse what it can not do, and to say why.
func (u *user) refused(env string) {
	u.Helper()
	u.sh(env + "docker run --detach --name there busybox sleep 1000000")
	for script, code := range map[string]string{
		"docker run --rm --privileged busybox true":                                                  "KEELSON-1001",
		"docker exec --privileged there true":                                                        "KEELSON-1001",
		"docker run --rm -v /etc:/host busybox true":                                                 "KEELSON-1002",
		"docker volume create -o type=none -o o=bind -o device=/etc bad":                             "KEELSON-1002",
		"docker service create --quiet --mount type=bind,src=/etc,dst=/host --name bad busybox true": "KEELSON-1002",
		"docker run --rm --cap-add SYS_ADMIN busybox true":                                           "KEELSON-1003",
		"docker run --rm --security-opt seccomp=unconfined busybox true":                             "KEELSON-1000",
		"docker run --rm --security-opt systempaths=unconfined busybox true":                         "KEELSON-1000",
		"docker run --rm --ipc=host busybox true":                                                    "KEELSON-1006",
		"docker run --rm --pid=host busybox true":                                                    "KEELSON-1007",
		"docker run --rm --device /dev/null busybox true":                                            "KEELSON-1008",
	} {
		out, err := u.try(env + script + " 2>&1")
		if err == nil || !strings.Contains(out, code) || !strings.Contains(out, "Instead: ") {
			u.Errorf("%s: %v, want %s and the remedy\n%s", script, err, code, out)
		}
	}
	// What Carina allowed is allowed.
	u.sh(env + "docker run --rm --net=host --cap-drop ALL --security-opt no-new-privileges -v /var/lib/docker:/docker:ro -v /var/run/docker.sock:/var/run/docker.sock busybox ls /var/run/docker.sock")
}

// swept removes all that the user sees on all nodes, and wants the cluster to
// be as good as before.
func (u *user) swept(env string, addresses []string) {
	u.Helper()
	u.sh(env + "docker service create --detach --quiet --no-resolve-image --name old --mode global busybox sleep 1000000")
	u.becomes("2", env+"docker service ps old --filter desired-state=running --format '{{.CurrentState}}' | grep -c Running")
	u.sh(env + "for a in " + strings.Join(addresses, " ") + `; do
			export DOCKER_HOST=tcp://$a:2376
			ids=$(docker ps -aq); [ -z "$ids" ] || docker rm -f $ids
		done
		source bundle/docker.env; docker service rm $(docker service ls -q)`)
	u.becomes("0", "(for a in "+strings.Join(addresses, " ")+"; do "+env+"docker -H tcp://$a:2376 ps -aq; done) | wc -l")
	u.sh("for a in " + strings.Join(addresses, " ") + "; do " + env + "docker -H tcp://$a:2376 network prune -f; docker -H tcp://$a:2376 volume prune -f; done")
	u.sh(env + "docker network create --driver overlay --attachable anew; docker service create --detach --quiet --no-resolve-image --name anew --network anew --endpoint-mode dnsrr --mode global busybox sleep 1000000")
	u.becomes("2", env+"docker service ps anew --filter desired-state=running --format '{{.CurrentState}}' | grep -c Running")
	u.becomes("Ready\nReady", env+"docker node ls --format '{{.Status}}'")
	u.sh(env + "docker service rm anew; docker image inspect busybox")
}

// in is the same user for a subtest.
func (u *user) in(t *testing.T) *user {
	sub, inner := *u, *u.cloud
	inner.T = t
	sub.cloud = &inner
	return &sub
}

// separated wants the front and the back network to be what they are for: web
// meets app, app meets db, and web does not know of db.
func (u *user) separated(exec func(service, command string) (string, error)) {
	u.Helper()
	for _, pair := range [][2]string{{"web", "app"}, {"app", "web"}, {"app", "db"}} {
		u.eventually(pair[0]+" meets "+pair[1], 30*time.Second, func() error {
			out, err := exec(pair[0], "ping -c 1 -W 2 "+pair[1])
			if err != nil {
				return errors.Join(err, errors.New(out))
			}
			return nil
		})
	}
	if out, err := exec("web", "ping -c 1 -W 2 db"); err == nil || !strings.Contains(out, "bad address") {
		u.Errorf("web meets db, which is in another network: %v\n%s", err, out)
	}
}

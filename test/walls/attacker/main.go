// SPDX-License-Identifier: Apache-2.0

// Command attacker is what a hostile tenant runs: in a node, in a container in
// a node, and, to show that it is the walls that stop it, without them.
//
//	attacker serve SOCKET                 run commands for whoever connects
//	attacker try NAME... [KEY=VALUE...]   try attacks, a line for each
//	attacker NAME [KEY=VALUE...]          try one; it got through if this succeeds
//	attacker enter ROOT ARGUMENT...       begin again with ROOT as the root directory
//
// No attack does more than it takes to show that it got through, and each
// is bounded: it may well get through.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// parameters are the KEY=VALUE arguments: what the attacker knows of its
// targets.
type parameters map[string]string

func (p parameters) number(key string) int {
	n, err := strconv.Atoi(p[key])
	if err != nil {
		fail(fmt.Errorf("%s=%q is not a number", key, p[key]))
	}
	return n
}

// attacks by name. One returns nil when it got through.
var attacks = map[string]func(parameters) error{}

// register adds the attacks of a file.
func register(more map[string]func(parameters) error) bool {
	for name, attack := range more {
		attacks[name] = attack
	}
	return true
}

// What try prints behind the name of an attack.
const (
	gotThrough = "got through"
	refused    = "refused"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: attacker serve SOCKET | try NAME... [KEY=VALUE...] | NAME [KEY=VALUE...]"))
	}
	var names []string
	p := parameters{}
	for _, argument := range os.Args[2:] {
		if key, value, found := strings.Cut(argument, "="); found {
			p[key] = value
		} else {
			names = append(names, argument)
		}
	}
	switch os.Args[1] {
	case "serve":
		fail(serve(names[0]))
	case "try":
		for _, name := range names {
			fmt.Println(name + "\t" + try(name, os.Args[2:]))
		}
	case "enter":
		fail(enter(os.Args[2], os.Args[3:]))
	default:
		attack := attacks[os.Args[1]]
		if attack == nil {
			fail(fmt.Errorf("no attack is called %q", os.Args[1]))
		}
		if err := attack(p); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}

// try runs one attack in a process of its own, whose state it may ruin.
func try(name string, arguments []string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "/proc/self/exe", name)
	for _, argument := range arguments {
		if strings.Contains(argument, "=") {
			command.Args = append(command.Args, argument)
		}
	}
	out, err := command.CombinedOutput()
	if err == nil {
		return strings.TrimSpace(gotThrough + " " + strings.ReplaceAll(string(out), "\n", " "))
	}
	return refused + ": " + strings.ReplaceAll(strings.TrimSpace(string(out)+" ("+err.Error()+")"), "\n", "; ")
}

// enter makes dir the root of the present mount namespace, as a container's
// runtime does, and runs the program that lies there.
func enter(dir string, arguments []string) error {
	runtime.LockOSThread()
	for target, fstype := range map[string]string{"proc": "proc", "sys": "sysfs", "dev": "devtmpfs", "tmp": "tmpfs"} {
		if err := unix.Mount(fstype, filepath.Join(dir, target), fstype, 0, map[string]string{"tmpfs": "nr_inodes=0"}[fstype]); err != nil {
			return fmt.Errorf("mount %s: %w", fstype, err)
		}
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Exec("/attacker", append([]string{"/attacker"}, arguments...), nil)
}

// serve runs this program with the arguments that each connection's first line
// has, separated by tabs, and answers with its output and a last line
// "exit CODE". It is ended when the connection is.
func serve(socket string) error {
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go answer(conn)
	}
}

func answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the client sends nothing more
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	command := exec.CommandContext(ctx, "/proc/self/exe", strings.Split(strings.TrimSpace(line), "\t")...)
	command.Stdout, command.Stderr = conn, conn
	_ = command.Run()
	_, _ = fmt.Fprintf(conn, "\nexit %d\n", command.ProcessState.ExitCode())
}

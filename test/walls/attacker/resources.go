// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Attempts to take so much that nothing is left for the neighbours.
var _ = register(map[string]func(parameters) error{
	"processes":     processes,
	"memory":        memory,
	"shared-memory": func(p parameters) error { return fill("/dev/shm/attack", p.number("mib")) },
	"socket-memory": socketMemory,
	"disk":          diskSpace,
	"inodes":        inodes,
	"disk-writes":   diskWrites,
	"cpu":           cpu,
	"files":         openFiles,
	"inotify":       inotify,
	"neighbours":    neighbours,
	"console":       console,
	"works":         works,
})

// processes has count= of them at a time.
func processes(p parameters) error {
	var children []int
	defer func() {
		for _, pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}()
	for range p.number("count") {
		// The child has but one thread of Go, which must not be asked to do
		// anything but wait.
		pid, _, err := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if err != 0 {
			return fmt.Errorf("after %d: %w", len(children), err)
		}
		if pid == 0 {
			for {
				_, _, _ = unix.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
			}
		}
		children = append(children, int(pid))
	}
	return nil
}

// memory uses mib= of it.
func memory(p parameters) error {
	hog := make([]byte, p.number("mib")<<20)
	for i := 0; i < len(hog); i += 4096 {
		hog[i] = 1
	}
	return nil
}

func fill(file string, mib int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Close()
}

// socketMemory fills the buffers of TCP connections to itself with mib=.
func socketMemory(p parameters) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	want, sent := p.number("mib")<<20, 0
	block := make([]byte, 64<<10)
	var open []net.Conn // nobody reads
	for sent < want && len(open) < 600 {
		client, err := net.DialTimeout("tcp4", listener.Addr().String(), time.Second)
		if err != nil {
			return err
		}
		server, err := listener.Accept()
		if err != nil {
			return err
		}
		open = append(open, client, server)
		_ = client.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		for {
			n, err := client.Write(block)
			sent += n
			if err != nil {
				break
			}
		}
	}
	if sent < want {
		return fmt.Errorf("%d connections took no more than %d MiB", len(open)/2, sent>>20)
	}
	return nil
}

// diskSpace takes mib= of the disk without writing.
func diskSpace(p parameters) error {
	f, err := os.Create(filepath.Join(p["dir"], "attack-space"))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	return unix.Fallocate(int(f.Fd()), 0, 0, int64(p.number("mib"))<<20)
}

// inodes makes count= empty files.
func inodes(p parameters) error {
	dir := filepath.Join(p["dir"], "attack-inodes")
	defer func() { _ = os.RemoveAll(dir) }()
	for i := range p.number("count") {
		if i%1000 == 0 {
			if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(i/1000)), 0o700); err != nil {
				return err
			}
		}
		if err := unix.Mknod(filepath.Join(dir, strconv.Itoa(i/1000), strconv.Itoa(i)), unix.S_IFREG|0o600, 0); err != nil {
			return fmt.Errorf("after %d: %w", i, err)
		}
	}
	return nil
}

// diskWrites writes mib= to the disk in less than ms= milliseconds: direct=1
// past the cache, else through it and then out.
func diskWrites(p parameters) error {
	flags := os.O_CREATE | os.O_WRONLY
	if p["direct"] == "1" {
		flags |= unix.O_DIRECT
	}
	file := filepath.Join(p["dir"], "attack-writes")
	f, err := os.OpenFile(file, flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	block, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	began, most := time.Now(), time.Duration(p.number("ms"))*time.Millisecond
	for range p.number("mib") / 4 {
		if _, err := f.Write(block); err != nil {
			return err
		}
		if took := time.Since(began); took > most {
			return fmt.Errorf("it takes more than %s", most)
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if took := time.Since(began); took > most {
		return fmt.Errorf("it took %s", took)
	}
	return nil
}

// cpu uses percent= of one CPU for a second.
func cpu(p parameters) error {
	done := time.Now().Add(time.Second)
	for range 2 {
		go func() {
			for time.Now().Before(done) { //nolint:revive // it is there to burn
			}
		}()
	}
	time.Sleep(time.Until(done))
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return err
	}
	percent := (used.Utime.Nano() + used.Stime.Nano()) / 1e7
	if percent < int64(p.number("percent")) {
		return fmt.Errorf("only %d %%", percent)
	}
	return nil
}

// openFiles opens count= of them, in as many processes as that takes.
func openFiles(p parameters) error {
	runtime.LockOSThread() // whose end would be that of the parts
	const each = 10000
	for left := p.number("count") - each; left > 0; left -= each {
		part := exec.Command("/proc/self/exe", "files", fmt.Sprintf("count=%d", min(left, each)), "hold=1")
		part.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		out, err := part.StdoutPipe()
		if err == nil {
			err = part.Start()
		}
		if err != nil {
			return err
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			return errors.New(line)
		}
	}
	for i := range min(p.number("count"), each) {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			return fmt.Errorf("after %d: %w", i, err)
		}
	}
	return hold(p)
}

// inotify makes count= instances.
func inotify(p parameters) error {
	for i := range p.number("count") {
		if _, err := unix.InotifyInit1(0); err != nil {
			return fmt.Errorf("after %d: %w", i, err)
		}
	}
	return hold(p)
}

// neighbours asks for the MAC addresses of count= machines from to= on that do
// not exist: the kernel keeps one list of all that it asks for.
func neighbours(p parameters) error {
	first := netip.MustParseAddr(p["to"]).As4()
	var socket int
	for i := range p.number("count") {
		if i%100 == 0 { // what waits for an answer fills the socket's buffer
			var err error
			if socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0); err != nil {
				return err
			}
		}
		to := first
		binary.BigEndian.PutUint16(to[2:], binary.BigEndian.Uint16(first[2:])+uint16(i))
		_ = unix.Sendto(socket, []byte("x"), 0, &unix.SockaddrInet4{Port: 9, Addr: to})
	}
	return hold(p)
}

// hold keeps what was taken until the client goes, if hold= is set.
func hold(p parameters) error {
	if p["hold"] != "" {
		fmt.Println("ready")
		time.Sleep(time.Minute)
	}
	return nil
}

// console writes mib= to the node's console, for at most a second.
func console(p parameters) error {
	fd, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	line := make([]byte, 4096)
	for i := range line {
		line[i] = 'x'
	}
	line[len(line)-1] = '\n'
	began, sent := time.Now(), 0
	for sent < p.number("mib")<<20 && time.Since(began) < time.Second {
		n, err := unix.Write(fd, line)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		sent += max(n, 0)
	}
	fmt.Printf("sent %d\n", sent)
	return nil
}

// works is what a neighbour does to see that it is well: it starts processes,
// has memory, writes a file, watches one, opens some, asks for the MAC address
// of ask=, whom nobody has asked for yet, and connects to reach=.
func works(p parameters) error {
	if err := processes(parameters{"count": "3"}); err != nil {
		return fmt.Errorf("processes: %w", err)
	}
	if err := memory(parameters{"mib": "16"}); err != nil {
		return err
	}
	if err := fill("/root/works", 1); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := inotify(parameters{"count": "1"}); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	if err := openFiles(parameters{"count": "10"}); err != nil {
		return fmt.Errorf("files: %w", err)
	}
	if err := neighbours(parameters{"count": "1", "to": p["ask"]}); err != nil {
		return err
	}
	asked, err := os.ReadFile("/proc/net/arp")
	if err != nil {
		return err
	}
	if !bytes.Contains(asked, []byte(p["ask"]+" ")) {
		return fmt.Errorf("the kernel does not ask for the MAC address of %s", p["ask"])
	}
	conn, err := net.DialTimeout("tcp4", p["reach"], 2*time.Second)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return conn.Close()
}

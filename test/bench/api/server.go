// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a process that is measured.
type server struct {
	name    string
	address string // of the service
	pprof   string // URL of /debug/pprof
	config  string // file; none for the yardstick
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has
}

// start starts a process and waits until its URL is answered with 200. It tells
// how long that took.
func start(ctx context.Context, s *server, log string, env []string, ready, token string, argv ...string) (time.Duration, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = file, file
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return 0, err
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	failed := func() (time.Duration, error) {
		s.stop()
		text, _ := os.ReadFile(log)
		return 0, fmt.Errorf("%s does not answer; the end of its log: %s", s.name, text[max(0, len(text)-2000):])
	}
	for {
		if status, _, err := fetch(ctx, http.MethodGet, ready, token, ""); err == nil && status == http.StatusOK {
			return time.Since(began), nil
		}
		if time.Since(began) > longest {
			return failed()
		}
		select {
		case <-s.ended:
			return failed()
		case <-ctx.Done():
			s.stop()
			return 0, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	if s.ended == nil {
		return // it was never started
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// fetch makes one request over a connection of its own.
func fetch(ctx context.Context, method, url, token, body string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Close = true
	request.Header.Set("X-Auth-Token", token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("OpenStack-API-Version", "container-infra latest")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// spent is the processor time, in microseconds, and the number of allocations
// of the process so far.
func (s *server) spent(ctx context.Context) (cpu, allocations float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const tick = 10_000 // microseconds, of the kernel's user interface
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += n * tick
	}
	if s.pprof == "" {
		return cpu, 0, nil
	}
	allocations, err = s.line(ctx, "allocs?debug=1", "# Mallocs = ")
	return cpu, allocations, err
}

// goroutines is how many the process has.
func (s *server) goroutines(ctx context.Context) (int, error) {
	n, err := s.line(ctx, "goroutine?debug=1", "goroutine profile: total ")
	return int(n), err
}

// line is the number behind a word in one of the profiles' text forms.
func (s *server) line(ctx context.Context, profile, word string) (float64, error) {
	_, text, err := fetch(ctx, http.MethodGet, s.pprof+profile, "", "")
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), word)
	if !found {
		return 0, fmt.Errorf("%s tells of no %q", s.name, word)
	}
	number, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(strings.TrimSpace(number), 64)
}

// memory is what the process has in memory, in MB: now and at most.
func (s *server) memory() (now, most float64, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[0] != "VmRSS:" && words[0] != "VmHWM:" {
			continue
		}
		kib, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return 0, 0, err
		}
		if words[0] == "VmRSS:" {
			now = kib * 1024 / 1e6
		} else {
			most = kib * 1024 / 1e6
		}
	}
	return now, most, nil
}

// files is how many files and connections the process has open.
func (s *server) files() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	return len(entries), err
}

// profile writes what the processor does in the next seconds to a file, unless
// that has no name. The function it returns waits for the end of it.
func (s *server) profile(ctx context.Context, file string, duration time.Duration) (func() error, error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		_, text, err := fetch(ctx, http.MethodGet, fmt.Sprintf("%sprofile?seconds=%d", s.pprof, max(1, int(duration.Seconds()))), "", "")
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		done <- err
	}()
	return func() error { return <-done }, nil
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

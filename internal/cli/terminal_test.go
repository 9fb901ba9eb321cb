// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is one that programs can not tell from a real one.
type terminal struct {
	*testing.T
	user *os.File // what the program has
	far  *os.File // where the person sits

	mu   sync.Mutex
	read strings.Builder
}

func newTerminal(t *testing.T, columns, lines uint16) *terminal {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(int(far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}),
	)
	if err != nil {
		t.Fatal(err)
	}
	user, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	terminal := &terminal{T: t, user: user, far: far}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 4096)
		for {
			n, err := far.Read(buffer)
			terminal.mu.Lock()
			terminal.read.Write(buffer[:n])
			terminal.mu.Unlock()
			if err != nil { // nobody has the other side any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = user.Close()
		<-ended
		_ = far.Close()
	})
	return terminal
}

// until returns what was written, up to the mark, since it was last asked.
func (t *terminal) until(mark string) string {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		t.mu.Lock()
		before, after, found := strings.Cut(t.read.String(), mark)
		if found {
			t.read.Reset()
			t.read.WriteString(after)
		}
		t.mu.Unlock()
		if found {
			return before
		}
		if time.Now().After(deadline) {
			t.Fatalf("never on the terminal: %q", mark)
		}
	}
}

// text is all that a program that has ended wrote.
func (t *terminal) text() string {
	t.Helper()
	const mark = "== that was all ==\r\n"
	if _, err := t.user.WriteString(strings.ReplaceAll(mark, "\r", "")); err != nil {
		t.Fatal(err)
	}
	return t.until(mark)
}

// answer waits for a question and answers it.
func (t *terminal) answer(question, answer string) {
	t.Helper()
	t.until(question)
	if _, err := t.far.WriteString(answer + "\n"); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/keelson/keelson/api/v1"
)

// display shows how an operation goes. It may be ended more than once.
type display interface {
	show(*v1.Operation) // nil if the service does not tell
	trouble(error)      // the service does not answer at the moment
	end()
}

// newDisplay is a picture that moves on a terminal, and lines elsewhere.
func (a *app) newDisplay(j job) display {
	if !term.IsTerminal(int(a.Err.Fd())) || os.Getenv("TERM") == "dumb" {
		return &lines{app: a, job: j, said: map[string]string{}}
	}
	p := &picture{app: a, job: j, began: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	go p.run()
	return p
}

// lines says each change of a step in a line of its own.
type lines struct {
	*app
	job  job
	said map[string]string // by step and node
	away bool
}

func (l *lines) show(o *v1.Operation) {
	l.away = false
	if o == nil {
		return
	}
	state := func() {
		if l.said[o.UUID] != o.State {
			l.said[o.UUID] = o.State
			l.line(time.Now(), "%s %s: %s", o.Kind, l.job.name, o.State)
		}
	}
	if underWay(o) {
		state()
	}
	defer state()
	for _, s := range o.Steps {
		key := o.UUID + "/" + s.Name + "/" + s.Node
		state := s.State
		if s.State != "done" && s.Attempts > 1 {
			state = fmt.Sprintf("try %d: %s", s.Attempts, printable(s.Message))
		}
		if l.said[key] == state {
			continue
		}
		l.said[key] = state
		what := s.Name
		if s.Node != "" {
			what += " " + s.Node
		}
		switch {
		case s.State == "done" && s.FinishedAt != nil:
			took := time.Time(*s.FinishedAt).Sub(time.Time(s.StartedAt))
			l.line(time.Time(*s.FinishedAt), "  %s: done (%s)", what, seconds(took))
		case s.State == "failed":
			l.line(time.Now(), "  %s: failed: %s", what, printable(s.Message))
		default:
			l.line(time.Time(s.StartedAt), "  %s: %s", what, state)
		}
	}
}

func (l *lines) line(at time.Time, format string, args ...any) {
	l.say("%s "+format, append([]any{at.Local().Format("15:04:05")}, args...)...)
}

func (l *lines) trouble(err error) {
	if !l.away {
		l.line(time.Now(), "%v; still waiting", err)
	}
	l.away = true
}

func (l *lines) end() {}

// picture draws the operation over itself, so that it seems to move.
type picture struct {
	*app
	job           job
	began         time.Time
	stop, stopped chan struct{}
	once          sync.Once

	mu        sync.Mutex
	operation *v1.Operation
	note      string
	drawn     int // lines on the terminal
	frame     int
}

const frameTime = 100 * time.Millisecond

func (p *picture) run() {
	defer close(p.stopped)
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		p.draw(false)
		select {
		case <-tick.C:
		case <-p.stop:
			p.draw(true)
			return
		}
	}
}

func (p *picture) show(o *v1.Operation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = ""
	if o != nil {
		p.operation = o
	}
}

func (p *picture) trouble(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = err.Error()
}

func (p *picture) end() {
	p.once.Do(func() { close(p.stop) })
	<-p.stopped
}

func (p *picture) draw(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wide, high, err := term.GetSize(int(p.Err.Fd()))
	if err != nil || wide < 20 || high < 5 {
		wide, high = 80, 24
	}
	picture := render(p.operation, p.job, time.Since(p.began), p.frame, marksFor(p.Err), last)
	p.frame++
	if p.note != "" {
		picture = append(picture, printable(p.note)+"; still waiting")
	}
	// What does not fit can not be drawn over: the oldest steps give way.
	if over := len(picture) - (high - 1); over > 0 && !last {
		picture = append(picture[:1], picture[1+over:]...)
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, line := range picture {
		b.WriteString("\r" + text.Trim(line, wide-1) + "\x1b[0m\x1b[K\n")
	}
	if len(picture) < p.drawn {
		b.WriteString("\x1b[J")
	}
	p.drawn = len(picture)
	_, _ = p.Err.WriteString(b.String())
}

// marks are the signs of a picture.
type marks struct {
	done, failed, waits string
	turning             []string
	colours             bool
}

func marksFor(f *os.File) marks {
	m := marks{done: "+", failed: "x", waits: "-", turning: []string{"|", "/", "-", "\\"}}
	if utf8Locale() {
		m = marks{done: "✔", failed: "✗", waits: "·", turning: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}}
	}
	m.colours = colours(f)
	return m
}

// utf8Locale tells whether the terminal is one for UTF-8.
func utf8Locale() bool {
	locale := strings.ToLower(first(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

func (m marks) paint(c colour, s string) string {
	if !m.colours || c == none {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// stage is one step on all nodes that take it.
type stage struct {
	name           string
	begun, done    int
	failed         bool
	busy           []string // nodes
	trouble        string
	started, ended time.Time
	nodes          bool
}

// stages sums the steps up by their name, in the order they were begun.
func stages(steps []v1.Step) []*stage {
	var all []*stage
	byName := map[string]*stage{}
	for _, s := range steps {
		g := byName[s.Name]
		if g == nil {
			g = &stage{name: s.Name, started: time.Time(s.StartedAt)}
			byName[s.Name] = g
			all = append(all, g)
		}
		g.begun++
		g.nodes = g.nodes || s.Node != ""
		if s.FinishedAt != nil && time.Time(*s.FinishedAt).After(g.ended) {
			g.ended = time.Time(*s.FinishedAt)
		}
		switch s.State {
		case "done":
			g.done++
			continue
		case "failed":
			g.failed = true
			g.trouble = s.Message
		default:
			if s.Attempts > 1 && s.Message != "" {
				g.trouble = fmt.Sprintf("try %d: %s", s.Attempts, s.Message)
			}
		}
		if s.Node != "" {
			g.busy = append(g.busy, s.Node)
		}
	}
	return all
}

// render is the picture of an operation, line by line: what is done to which
// cluster, then a line for each step with the nodes that take it now.
func render(o *v1.Operation, j job, elapsed time.Duration, frame int, m marks, last bool) []string {
	turning := m.turning[frame%len(m.turning)]
	if o == nil {
		if last {
			turning = m.waits
		}
		return []string{fmt.Sprintf("%s %s %s  %s", m.paint(yellow, turning), first(j.verb, "waiting for"), m.paint(bold, j.name), seconds(elapsed))}
	}
	sign, state := m.paint(yellow, turning), o.State
	switch o.State {
	case "done":
		sign = m.paint(green, m.done)
	case "failed", "cancelled":
		sign, state = m.paint(red, m.failed), m.paint(red, state)
	default:
		if last {
			sign = m.waits
		}
	}
	if o.Undo && o.State == "running" {
		state = m.paint(red, "failed, removing what was begun")
	}
	picture := []string{fmt.Sprintf("%s %s %s  %s  %s", sign, o.Kind, m.paint(bold, j.name), state, seconds(elapsed))}
	for _, g := range stages(o.Steps) {
		sign := m.paint(yellow, turning)
		switch {
		case g.failed:
			sign = m.paint(red, m.failed)
		case g.done == g.begun:
			sign = m.paint(green, m.done)
		case last:
			sign = m.waits
		}
		count := ""
		if g.nodes {
			count = fmt.Sprintf("%d/%d", g.done, g.begun)
		}
		line := fmt.Sprintf("  %s %-18s %7s  ", sign, g.name, count)
		if g.done == g.begun {
			line += seconds(g.ended.Sub(g.started))
		} else {
			line += some(g.busy)
		}
		if g.trouble != "" && g.done < g.begun {
			line += "  " + m.paint(red, printable(g.trouble))
		}
		picture = append(picture, strings.TrimRight(line, " "))
	}
	return picture
}

// some are the first three names, and how many more there are.
func some(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if more := len(names) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), more)
	}
	return strings.Join(names, ", ")
}

// seconds is a time for people: "3 s", "2 min 10 s".
func seconds(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}

// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
)

// view is what a page is made from.
type view struct {
	Title   string
	Nav     string // the part of the portal that the page belongs to
	Session *session
	CSRF    string
	Base    string // what addresses of the portal begin with
	Did     string // what was just done
	Every   int    // seconds after which the page fetches its live part anew; 0: never
	Body    any

	now time.Time
}

// Inside tells whether somebody is logged in.
func (v *view) Inside() bool { return v.Session != nil && v.Session.Token != "" }

// Ago tells how long ago that was.
func (v *view) Ago(t any) string {
	at, known := moment(t)
	if !known {
		return "never"
	}
	return ago(v.now.Sub(at))
}

// message is a page of a few words.
type message struct{ Heading, Text string }

//go:embed pages/*.html
var pageFiles embed.FS

// pages are all pages by name, each with the layout around it.
var pages = parsePages()

func parsePages() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(pageFiles, "pages/layout.html", "pages/parts.html"))
	all := map[string]*template.Template{}
	for _, name := range []string{
		"message", "login", "projects", "clusters", "cluster", "create", "grow", "rebuild", "upgrade", "delete", "access",
		"autoscale", "templates", "newtemplate", "template", "quotas", "hosts",
	} {
		all[name] = template.Must(template.Must(shared.Clone()).ParseFS(pageFiles, "pages/"+name+".html"))
	}
	return all
}

var functions = template.FuncMap{
	"asset":    asset,
	"chip":     chipOf,
	"health":   healthChip,
	"state":    stateChip,
	"word":     words,
	"step":     stepName,
	"text":     text,
	"iso":      func(t any) string { at, _ := moment(t); return at.UTC().Format(time.RFC3339) },
	"stamp":    func(t any) string { at, _ := moment(t); return at.UTC().Format("2 Jan 15:04:05 UTC") },
	"took":     took,
	"level":    level,
	"percent":  percent,
	"gib":      func(mib int) string { return trim(float64(mib)/1024) + " GiB" },
	"gibs":     func(mib int) float64 { return float64(mib) / 1024 },
	"number":   trim,
	"sub":      func(a, b int) int { return a - b },
	"has":      func(all []string, one string) bool { return slices.Contains(all, one) },
	"host":     hostName,
	"shells":   shells,
	"dict":     dict,
	"deletion": func(status string) bool { return strings.HasPrefix(status, "DELETE_IN") },
	"plural": func(n int, one, many string) string {
		if n == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n, many)
	},
	"done": func(o *v1.Operation) int {
		n := 0
		for _, s := range o.Steps {
			if s.State == "done" {
				n++
			}
		}
		return n
	},
}

// dict gathers arguments for a part of a page.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// chip shows a state: by words and a sign first, and by colour only besides.
type chip struct{ Kind, Sign, Text string }

// changing tells whether the status is one that will pass.
func changing(status string) bool { return strings.HasSuffix(status, "_IN_PROGRESS") }

// chipOf shows the status of a cluster or node group.
func chipOf(status string) chip {
	verb, outcome, _ := strings.Cut(status, "_")
	doing := map[string]string{"CREATE": "Creating", "UPDATE": "Updating", "DELETE": "Deleting", "ROLLBACK": "Rolling back"}
	switch outcome {
	case "COMPLETE":
		if verb == "DELETE" {
			return chip{"idle", "minus", "Deleted"}
		}
		return chip{"good", "check", "Active"}
	case "IN_PROGRESS":
		if text := doing[verb]; text != "" {
			return chip{"busy", "busy", text}
		}
		return chip{"busy", "busy", words(verb)}
	case "FAILED":
		return chip{"bad", "cross", words(verb) + " failed"}
	}
	return chip{"idle", "minus", words(status)}
}

// healthChip shows the health of a cluster.
func healthChip(status *string) chip {
	switch text(status, "") {
	case "HEALTHY":
		return chip{"good", "heart", "Healthy"}
	case "UNHEALTHY":
		return chip{"bad", "alert", "Unhealthy"}
	case "":
		return chip{"idle", "minus", "Not checked yet"}
	}
	return chip{"idle", "question", "Health unknown"}
}

// stateChip shows the state of a node, host, operation or step.
func stateChip(state string) chip {
	switch state {
	case "ready", "done", "UP", "up":
		return chip{"good", "check", words(state)}
	case "failed", "error", "gone":
		return chip{"bad", "cross", words(state)}
	case "stopped", "draining", "cancelled":
		return chip{"warn", "alert", words(state)}
	case "wanted", "pending", "enrolled":
		return chip{"idle", "clock", words(state)}
	}
	return chip{"busy", "busy", words(state)}
}

// words makes a word of the API one for people: "CREATE_FAILED" is "Create
// failed".
func words(s string) string {
	s = strings.ToLower(strings.NewReplacer("_", " ", "-", " ", ".", " ").Replace(s))
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// hostName is what a node's host is called. Tenants are told a tag that is the
// same for all nodes there; its beginning tells them apart.
func hostName(name *string) string {
	text := text(name, "–")
	if uuid.Validate(text) == nil {
		return text[:8]
	}
	return text
}

// stepNames are the names of steps for people; what drivers name otherwise is
// shown in their words.
var stepNames = map[string]string{
	"certificates": "Make the certificates", "node.place": "Find a host", "node.start": "Start the node", "node.rebuild": "Rebuild the node",
	"node.delete": "Remove the node", "coe.form": "Form the cluster", "coe.join": "Join the cluster", "coe.leave": "Leave the cluster",
	"coe.restore": "Bring the cluster back", "cluster.record": "Write it down",
}

func stepName(name string) string {
	if text := stepNames[name]; text != "" {
		return text
	}
	return words(name)
}

// level makes the level of an event a chip's kind.
func level(of string) chip {
	switch of {
	case v1.LevelError:
		return chip{"bad", "cross", "Error"}
	case v1.LevelWarning:
		return chip{"warn", "alert", "Warning"}
	}
	return chip{"idle", "dot", "Info"}
}

// moment reads the times that the API tells.
func moment(t any) (time.Time, bool) {
	switch at := t.(type) {
	case v1.Time:
		return time.Time(at), !time.Time(at).IsZero()
	case *v1.Time:
		if at != nil {
			return time.Time(*at), true
		}
	}
	return time.Time{}, false
}

// took is the time between two moments; the second may be yet to come.
func took(from, to any) string {
	a, known := moment(from)
	b, ended := moment(to)
	if !known || !ended {
		return ""
	}
	return span(b.Sub(a))
}

func span(d time.Duration) string {
	switch d = max(0, d.Round(time.Second)); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func ago(d time.Duration) string {
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

func percent(part, whole int) int {
	if whole <= 0 {
		return 0
	}
	return 100 * part / whole
}

// trim writes a number with one decimal, if it has one.
func trim(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// gauge shows how much of something is reserved, now and over time.
type gauge struct {
	Name        string
	Percent     int
	Used, Total string
	Chart       *chart
}

// Kind is how near to full it is.
func (g *gauge) Kind() string {
	switch {
	case g.Percent > 80:
		return "warn"
	}
	return "good"
}

// gauges are those of the CPU and of the memory; nil when nothing is known.
func gauges(u v1.Usage) (cpu, memory *gauge) {
	if len(u.Nodes) == 0 {
		return nil, nil
	}
	var c, cAll float64
	var m, mAll int
	for _, n := range u.Nodes {
		c, cAll = c+n.CPUsReserved, cAll+n.CPUsTotal
		m, mAll = m+n.MemoryMBReserved, mAll+n.MemoryMBTotal
	}
	cpu = &gauge{Name: "CPU", Used: trim(c), Total: trim(cAll) + " CPUs", Percent: percent(int(c*1000), int(cAll*1000))}
	memory = &gauge{Name: "Memory", Used: trim(float64(m) / 1024), Total: trim(float64(mAll)/1024) + " GiB", Percent: percent(m, mAll)}
	cpu.Chart = newChart(u.Samples, func(s v1.UsageSample) (float64, float64) { return s.CPUsReserved, s.CPUsTotal })
	memory.Chart = newChart(u.Samples, func(s v1.UsageSample) (float64, float64) {
		return float64(s.MemoryMBReserved), float64(s.MemoryMBTotal)
	})
	return cpu, memory
}

// chart is a line over time, ready to be drawn: per cent of the capacity from
// 0 (bottom) to 100 (top) in a box of Width by Height.
type chart struct {
	Width, Height int
	Line, Area    string // points
	From, To      v1.Time
	Peak          int
}

// newChart draws the samples; nil when there are too few.
func newChart(samples []v1.UsageSample, read func(v1.UsageSample) (used, whole float64)) *chart {
	const width, height = 320, 72
	if len(samples) < 2 {
		return nil
	}
	c := &chart{Width: width, Height: height, From: samples[0].Time, To: samples[len(samples)-1].Time}
	begin, length := time.Time(c.From), time.Time(c.To).Sub(time.Time(c.From))
	if length <= 0 {
		return nil
	}
	var line strings.Builder
	for _, s := range samples {
		used, whole := read(s)
		share := 0.0
		if whole > 0 {
			share = min(1, used/whole)
		}
		c.Peak = max(c.Peak, int(100*share))
		x := width * time.Time(s.Time).Sub(begin).Seconds() / length.Seconds()
		fmt.Fprintf(&line, "%.1f,%.1f ", x, height*(1-share))
	}
	c.Line = strings.TrimSpace(line.String())
	c.Area = fmt.Sprintf("0,%d %s %d,%d", height, c.Line, width, height)
	return c
}

// shell is how one shell uses a bundle.
type shell struct{ ID, Name, Commands string }

// shells tell what to type for a cluster of that name, in the directory with
// the downloaded file.
func shells(cluster string) []shell {
	name := unsafeInName.ReplaceAllString(cluster, "_")
	return []shell{
		{"bash", "bash, zsh", "unzip " + name + ".zip\nsource " + name + "/docker.env\ndocker info"},
		{"fish", "fish", "unzip " + name + ".zip\nsource " + name + "/docker.fish\ndocker info"},
		{"powershell", "PowerShell", "Expand-Archive " + name + ".zip .\n. ./" + name + "/docker.ps1\ndocker info"},
		{"cmd", "Windows cmd", "tar -xf " + name + ".zip\ncall " + name + "\\docker.cmd\ndocker info"},
		{"context", "Docker context", "unzip " + name + ".zip\ndocker context import " + name + " " + name + "/" + name + ".dockercontext\ndocker --context " + name + " info"},
	}
}

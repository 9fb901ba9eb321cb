// SPDX-License-Identifier: Apache-2.0

// Package config reads Keelson's configuration: INI files in the manner of
// oslo.config, overlaid by environment variables.
//
// Each option is declared once, next to the struct that receives it: name,
// type, default, limits and help. From these declarations come the loader,
// the sample file and `keelsond config show`.
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

// Where configuration is read from unless told otherwise. Both may be missing.
const (
	DefaultFile = "/etc/keelson/keelson.conf"
	DefaultDir  = "/etc/keelson/keelson.conf.d"
)

// Config is the whole configuration, a field for each group of the file. The
// options of [DEFAULT] are fields of Config itself.
type Config struct {
	Default
	API               API
	RateLimit         RateLimit
	CORS              CORS
	Portal            Portal
	Database          Database
	KeystoneAuthToken KeystoneAuthToken
	Identity          Identity
	OsloPolicy        OsloPolicy
	Conductor         Conductor
	Drivers           Drivers
	Swarm             Swarm
	Ironic            Ironic
	Hosts             Hosts
	Network           Network
	Flavors           Flavors
	Images            Images
	Catalog           Catalog
	Quotas            Quotas
	X509              X509
	Notifications     OsloMessagingNotifications
	Rabbit            OsloMessagingRabbit
	Healthcheck       Healthcheck
	Metrics           Metrics
	OTel              OTel

	// SecretFiles are the files that secrets were read from, by "group/option".
	SecretFiles map[string]string
}

// groups declares every option, bound to c.
func (c *Config) groups() []*group {
	groups := []*group{
		c.Default.declare(),
		c.API.declare(),
		c.RateLimit.declare(),
		c.CORS.declare(),
		c.Portal.declare(),
		c.Database.declare(),
		c.KeystoneAuthToken.declare(),
		c.Identity.declare(),
		c.OsloPolicy.declare(),
		c.Conductor.declare(),
		c.Drivers.declare(),
		c.Swarm.declare(),
		c.Ironic.declare(),
		c.Hosts.declare(),
		c.Network.declare(),
		c.Flavors.declare(),
		c.Images.declare(),
		c.Catalog.declare(),
		c.Quotas.declare(),
		c.X509.declare(),
		c.Notifications.declare(),
		c.Rabbit.declare(),
		c.Healthcheck.declare(),
		c.Metrics.declare(),
		c.OTel.declare(),
	}
	for _, g := range groups {
		c.readSecretsFromFiles(g)
	}
	return groups
}

// Sources says where to read from. Later sources win over earlier ones:
// defaults, Files in their order, Dirs in their order, Env. Options that may
// be given several times gather the values of all files; the environment
// replaces them.
type Sources struct {
	Files []string // --config-file; each must exist
	Dirs  []string // --config-dir; each must exist; its *.conf are read, sorted by name
	// Env holds "OS_<GROUP>__<OPTION>=value" among other things, as given by
	// os.Environ. Several values of one option are separated by newlines.
	Env []string
}

// Load reads the configuration. Without Files and Dirs it reads DefaultFile
// and DefaultDir, if they exist. The error, if any, is of type Faults and
// holds everything that is wrong, not only the first thing.
func Load(s Sources) (*Config, []Warning, error) {
	return load(s, DefaultFile, DefaultDir)
}

func load(s Sources, defaultFile, defaultDir string) (*Config, []Warning, error) {
	l := newLoader()
	l.dir = filepath.Dir(slices.Concat(s.Files, s.Dirs, []string{defaultFile})[0])
	if len(s.Files)+len(s.Dirs) == 0 {
		l.readFile(defaultFile, true)
		l.readDir(defaultDir, true)
	}
	for _, name := range s.Files {
		l.readFile(name, false)
	}
	for _, name := range s.Dirs {
		l.readDir(name, false)
	}
	l.readEnv(s.Env)
	return l.finish()
}

// value is one value of an option and where it was given.
type value struct{ text, source string }

// loader gathers what the sources say and fills a Config with it.
type loader struct {
	config      *Config
	groups      []*group // bound to config
	dir         string   // where the first source is; relative file names start there
	credentials string   // directory of systemd's credentials, if it has told one
	file        []assignment
	env         []assignment
	warnings    []Warning
	faults      Faults
}

func newLoader() *loader {
	c := new(Config)
	return &loader{config: c, groups: c.groups()}
}

func (l *loader) finish() (*Config, []Warning, error) {
	l.warnUnknown()
	l.fill()
	if len(l.faults) > 0 {
		return nil, l.warnings, l.faults
	}
	if policy := &l.config.OsloPolicy.PolicyFile; *policy != "" && !filepath.IsAbs(*policy) {
		*policy = filepath.Join(l.dir, *policy)
	}
	return l.config, l.warnings, nil
}

func (l *loader) fault(f Fault) { l.faults = append(l.faults, f) }

func (l *loader) readFile(name string, mayBeMissing bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		l.unreadable(name, mayBeMissing, err)
		return
	}
	l.readText(name, string(text))
}

func (l *loader) readText(name, text string) {
	found, faults := readINI(name, text)
	l.file = append(l.file, found...)
	l.faults = append(l.faults, faults...)
}

func (l *loader) readDir(name string, mayBeMissing bool) {
	entries, err := os.ReadDir(name) // sorted
	if err != nil {
		l.unreadable(name, mayBeMissing, err)
		return
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") {
			l.readFile(filepath.Join(name, e.Name()), false)
		}
	}
}

func (l *loader) unreadable(name string, mayBeMissing bool, err error) {
	if mayBeMissing && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err // the name is in the fault's source already
	}
	l.fault(Fault{Source: name, Rule: fmt.Sprintf("cannot be read: %v", err)})
}

// readEnv keeps variables of the form OS_<GROUP>__<OPTION> whose group is
// ours; others, like a client's OS_AUTH_URL, are someone else's.
func (l *loader) readEnv(env []string) {
	groups := map[string]string{}
	for _, g := range l.groups {
		groups[strings.ToUpper(g.name)] = g.name
	}
	for _, variable := range env {
		name, text, _ := strings.Cut(variable, "=")
		if name == credentialsDirectory {
			l.credentials = text
		}
		group, option, ok := strings.Cut(strings.TrimPrefix(name, "OS_"), "__")
		if !ok || !strings.HasPrefix(name, "OS_") || groups[group] == "" {
			continue
		}
		l.env = append(l.env, assignment{groups[group], strings.ToLower(option), text, name})
	}
}

func (l *loader) find(group, name string) *option {
	for _, g := range l.groups {
		if g.name != group {
			continue
		}
		for _, o := range g.options {
			if o.name == name {
				return o
			}
		}
	}
	return nil
}

// warnUnknown tells which assignments no option reads. oslo.config ignores
// them, and so do we: a file may be shared with another release.
func (l *loader) warnUnknown() {
	known := map[[2]string]bool{}
	for _, g := range l.groups {
		for _, o := range g.options {
			known[[2]string{g.name, o.name}] = true
			for _, old := range o.oldNames {
				known[[2]string{old.group, old.name}] = true
			}
		}
	}
	for _, a := range slices.Concat(l.file, l.env) {
		if !known[[2]string{a.group, a.option}] {
			l.warnings = append(l.warnings, Warning{a.source, a.group, a.option, "no such option, ignored"})
		}
	}
}

// fill gives every option its value and checks the rules of each group.
func (l *loader) fill() {
	s := &substitution{values: map[*option][]value{}, find: l.find, active: map[*option]bool{}}
	for _, g := range l.groups {
		for _, o := range g.options {
			s.values[o] = l.given(o)
		}
	}
	for _, g := range l.groups {
		sound := true
		for _, o := range g.options {
			sound = l.fillOption(s, o) && sound
		}
		for _, o := range g.options {
			if sound && o.file != nil {
				sound = l.fillFromFile(s, o)
			}
		}
		if sound && g.validate != nil {
			g.validate(func(name, rule string) {
				values := s.values[l.find(g.name, name)]
				source := ""
				if len(values) > 0 {
					source = values[len(values)-1].source
				}
				l.fault(Fault{source, g.name, name, rule})
			})
		}
	}
}

// fillOption stores o's value and tells whether it was right.
func (l *loader) fillOption(s *substitution, o *option) bool {
	values := s.values[o]
	if !o.multi {
		values = values[len(values)-1:]
	}
	sound := true
	texts := make([]string, 0, len(values))
	for _, v := range values {
		text, err := s.expand(o, v.text)
		if err == nil && o.multi {
			// Each value by itself, so that its fault names its line.
			err = errors.Join(o.store([]string{text})...)
		}
		if err != nil {
			l.fault(Fault{v.source, o.group, o.name, err.Error()})
			sound = false
			continue
		}
		texts = append(texts, text)
	}
	if !sound {
		return false
	}
	for _, err := range o.store(texts) {
		rule := err.Error()
		if o.mayTell() {
			rule += ", not " + quote(values[0].text)
		}
		l.fault(Fault{values[0].source, o.group, o.name, rule})
		sound = false
	}
	return sound
}

// given returns o's values from the strongest source that has any: the
// environment, the files, the files under an old name, the default.
func (l *loader) given(o *option) []value {
	for _, a := range l.env {
		if a.group != o.group || a.option != o.name {
			continue
		}
		texts := []string{a.value}
		if o.multi {
			texts = strings.Split(a.value, "\n")
		}
		return values(a.source, texts)
	}
	if vs := l.fromFiles(o.group, o.name); vs != nil {
		return vs
	}
	for _, old := range o.oldNames {
		if vs := l.fromFiles(old.group, old.name); vs != nil {
			l.warnings = append(l.warnings, Warning{
				vs[len(vs)-1].source, old.group, old.name,
				fmt.Sprintf("old name of [%s] %s", o.group, o.name),
			})
			return vs
		}
	}
	return values("default", o.defaults)
}

func (l *loader) fromFiles(group, name string) (vs []value) {
	for _, a := range l.file {
		if a.group == group && a.option == name {
			vs = append(vs, value{a.value, a.source})
		}
	}
	return vs
}

func values(source string, texts []string) []value {
	vs := make([]value, len(texts))
	for i, text := range texts {
		vs[i] = value{text, source}
	}
	return vs
}

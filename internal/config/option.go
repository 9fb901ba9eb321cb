// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// group is one [group] of the configuration file.
type group struct {
	name    string
	help    string
	options []*option

	// validate checks rules that span several of the group's options. It runs
	// only when each of them is right by itself. It calls fault with the
	// option to blame.
	validate func(fault func(option, rule string))
}

// option is one option: how it is written, what it means and where its value
// goes. It is bound to one Config.
type option struct {
	group, name string
	kind        string   // in the sample's words: "integer value"
	help        string   // one paragraph
	defaults    []string // as an operator would write them
	sample      string   // shown in place of a default that depends on the machine
	limits      *limits
	choices     []string
	oldNames    []oldName
	rules       []func(string) error // for text that is not empty
	secret      bool
	file        *option // holds the name of a file that a secret is in
	multi       bool    // may be given several times, all count

	store func(values []string) []error // checks and keeps; one value unless multi
	text  func() []string               // the value kept, as an operator would write it
}

// oldName is a name that an option went by; it still works, with a warning.
type oldName struct{ group, name string }

// limits bound a number, in the unit of its option; both ends are allowed.
type limits struct{ min, max float64 }

func between(min, max float64) limits { return limits{min, max} }

func (l limits) check(v float64) error {
	if v >= l.min && v <= l.max { // false for NaN
		return nil
	}
	return fmt.Errorf("must be between %s and %s", number(l.min), number(l.max))
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// mayTell tells whether a fault may repeat the wrong value. Free text may not
// be repeated: an address that is refused may be so for the password in it.
func (o *option) mayTell() bool {
	return o.kind != "string value" && o.kind != "list value" && !o.multi || o.choices != nil
}

// formerly tells a name that the option went by.
func (o *option) formerly(group, name string) *option {
	o.oldNames = append(o.oldNames, oldName{group, name})
	return o
}

// must adds a rule for values that are not empty.
func (o *option) must(rule func(string) error) *option {
	o.rules = append(o.rules, rule)
	return o
}

// shownAs replaces the default in the sample.
func (o *option) shownAs(text string) *option {
	o.sample = text
	return o
}

// single declares an option that holds one value on one line.
func (g *group) single(name, kind, def, help string, parse func(string) error, text func() string) *option {
	o := &option{group: g.name, name: name, kind: kind, help: help, defaults: []string{def}}
	o.store = func(values []string) []error {
		v := values[len(values)-1]
		if strings.ContainsFunc(v, unicode.IsControl) {
			return []error{errors.New("must be one line without control characters")}
		}
		if v != "" {
			for _, rule := range o.rules {
				if err := rule(v); err != nil {
					return []error{err}
				}
			}
		}
		if err := parse(v); err != nil {
			return []error{err}
		}
		return nil
	}
	o.text = func() []string { return []string{text()} }
	g.options = append(g.options, o)
	return o
}

func (g *group) string(into *string, name, def, help string) *option {
	return g.single(name, "string value", def, help,
		func(v string) error { *into = v; return nil },
		func() string { return *into })
}

func (g *group) secret(into *Secret, name, def, help string) *option {
	o := g.single(name, "string value", def, help,
		func(v string) error { *into = Secret(v); return nil },
		func() string { return into.String() })
	o.secret = true
	return o
}

func (g *group) choice(into *string, name, def string, choices []string, help string) *option {
	o := g.single(name, "string value", def, help,
		func(v string) error {
			if !slices.Contains(choices, v) {
				return fmt.Errorf("must be one of %s", strings.Join(choices, ", "))
			}
			*into = v
			return nil
		},
		func() string { return *into })
	o.choices = choices
	return o
}

func (g *group) bool(into *bool, name string, def bool, help string) *option {
	return g.single(name, "boolean value", strconv.FormatBool(def), help,
		func(v string) error {
			switch strings.ToLower(v) {
			case "true", "yes", "on", "1":
				*into = true
			case "false", "no", "off", "0":
				*into = false
			default:
				return errors.New("must be true or false")
			}
			return nil
		},
		func() string { return strconv.FormatBool(*into) })
}

func (g *group) int(into *int, name string, def int, limits limits, help string) *option {
	o := g.single(name, "integer value", strconv.Itoa(def), help,
		func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return errors.New("must be an integer")
			}
			if err := limits.check(float64(n)); err != nil {
				return err
			}
			*into = n
			return nil
		},
		func() string { return strconv.Itoa(*into) })
	o.limits = &limits
	return o
}

func (g *group) port(into *int, name string, def int, help string) *option {
	o := g.int(into, name, def, between(0, 65535), help)
	o.kind = "port value"
	return o
}

func (g *group) float(into *float64, name string, def float64, limits limits, help string) *option {
	o := g.single(name, "floating point value", number(def), help,
		func(v string) error {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return errors.New("must be a number")
			}
			if err := limits.check(n); err != nil {
				return err
			}
			*into = n
			return nil
		},
		func() string { return number(*into) })
	o.limits = &limits
	return o
}

// The units that options count time in. OpenStack writes plain numbers.
const (
	seconds = time.Second
	minutes = time.Minute
	days    = 24 * time.Hour
)

// duration declares a length of time, written as a number of units; fractions
// are allowed.
func (g *group) duration(into *time.Duration, name string, def float64, unit time.Duration, limits limits, help string) *option {
	var n float64
	o := g.float(&n, name, def, limits, help)
	store := o.store
	o.store = func(values []string) []error {
		if errs := store(values); errs != nil {
			return errs
		}
		*into = time.Duration(math.Round(n * float64(unit)))
		return nil
	}
	o.text = func() []string { return []string{number(float64(*into) / float64(unit))} }
	return o
}

// list declares several values in one, separated by commas. Each must keep
// the rule; nil allows all.
func (g *group) list(into *[]string, name, def string, rule func(string) error, help string) *option {
	o := &option{group: g.name, name: name, kind: "list value", help: help, defaults: []string{def}}
	o.store = func(values []string) []error {
		var items []string
		var errs []error
		for item := range strings.SplitSeq(values[len(values)-1], ",") {
			item = strings.TrimSpace(item)
			switch {
			case item == "":
				continue
			case strings.ContainsFunc(item, unicode.IsControl):
				errs = append(errs, errors.New("needs a comma between values"))
			case rule != nil:
				if err := rule(item); err != nil {
					errs = append(errs, fmt.Errorf("%s %w", quote(item), err))
				}
			}
			items = append(items, item)
		}
		if errs == nil {
			*into = items
		}
		return errs
	}
	o.text = func() []string { return []string{strings.Join(*into, ",")} }
	g.options = append(g.options, o)
	return o
}

// multi declares an option that is given once for each of its values.
func multi[T fmt.Stringer](g *group, into *[]T, name string, defaults []string, parse func(string) (T, error), help string) *option {
	o := &option{group: g.name, name: name, kind: "multi valued", help: help, defaults: defaults, multi: true}
	o.store = func(values []string) []error {
		var items []T
		var errs []error
		for _, v := range values {
			if v == "" { // "option =" says: none
				continue
			}
			item, err := parse(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %w", quote(v), err))
				continue
			}
			items = append(items, item)
		}
		if errs == nil {
			*into = items
		}
		return errs
	}
	o.text = func() []string {
		var lines []string
		for _, item := range *into {
			lines = append(lines, item.String())
		}
		return lines
	}
	g.options = append(g.options, o)
	return o
}

// quote shows a wrong value, shortened.
func quote(v string) string {
	const most = 60
	if r := []rune(v); len(r) > most {
		v = string(r[:most]) + "…"
	}
	return strconv.Quote(v)
}

// Rules for text.

// httpURL: an address of a web service.
func httpURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("must be a http:// or https:// address without user and password")
	}
	return nil
}

// absolutePath: a file name that means the same from every working directory.
func absolutePath(v string) error {
	if !strings.HasPrefix(v, "/") {
		return errors.New("must be an absolute path")
	}
	return nil
}

// scheme: starts with one of these schemes. The value itself stays untold, for
// it may hold a password.
func scheme(schemes ...string) func(string) error {
	return func(v string) error {
		for _, s := range schemes {
			if strings.HasPrefix(v, s+"://") {
				return nil
			}
		}
		return fmt.Errorf("must start with %s://", strings.Join(schemes, ":// or "))
	}
}

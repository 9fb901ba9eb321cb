// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"net/url"
	"time"
)

// RateLimit is the group [rate_limit]: how many requests a project may make.
type RateLimit struct {
	ReadsPerSecond   float64 // 0: no limit
	ReadsBurst       int
	ChangesPerSecond float64 // 0: no limit
	ChangesBurst     int
}

func (r *RateLimit) declare() *group {
	g := &group{name: "rate_limit", help: "How many requests each project may make. Each API process counts for itself: behind a balancer a project may make so many times the number of processes. " +
		"More are answered 429 with Retry-After."}
	g.float(&r.ReadsPerSecond, "reads_per_second", 0, between(0, 1_000_000),
		"Requests a second that only look (GET, HEAD). 0 sets no limit.")
	g.int(&r.ReadsBurst, "reads_burst", 100, between(1, 1_000_000),
		"How many of those may come at once after a while without any.")
	g.float(&r.ChangesPerSecond, "changes_per_second", 0, between(0, 1_000_000),
		"Requests a second of all other kinds. 0 sets no limit.")
	g.int(&r.ChangesBurst, "changes_burst", 20, between(1, 1_000_000),
		"How many of those may come at once after a while without any.")
	return g
}

// CORS is the group [cors]: pages of other sites that may use the API from a
// browser.
type CORS struct {
	AllowedOrigins []string
	MaxAge         time.Duration
}

func (c *CORS) declare() *group {
	g := &group{name: "cors", help: "Pages of other sites that may use the API from a browser (CORS). Cookies are never accepted from there, only tokens. The portal needs none of this."}
	g.list(&c.AllowedOrigins, "allowed_origin", "", origin,
		"Origins of such pages, like https://dashboard.example.org. When unset, there are none.")
	g.duration(&c.MaxAge, "max_age", 3600, seconds, between(0, 86_400),
		"Seconds for which a browser remembers that it may.")
	return g
}

// origin: scheme, host and port of a web site, as browsers tell it.
func origin(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || v != u.Scheme+"://"+u.Host {
		return errors.New("must be the origin of a site, like https://dashboard.example.org, without a path")
	}
	return nil
}

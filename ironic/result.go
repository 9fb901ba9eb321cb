// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"math/rand/v2"
	"time"
)

// Result is what a step that did not fail came to.
type Result struct {
	// Done: there is nothing left to do.
	Done bool
	// After is set when the step is not done: call again that much later, with
	// the same arguments.
	After time.Duration
	// Message says for people what was seen or done.
	Message string
}

func done(message string) Result { return Result{Done: true, Message: message} }

// soon asks to be called again as quickly as it makes sense: after a request
// that Ironic accepted.
func (c *Client) soon(message string) Result {
	return Result{After: c.jittered(c.opt.MinDelay), Message: message}
}

// later asks to be called again for work that began at since (Ironic's clock):
// young work is looked at often, old work rarely.
func (c *Client) later(since time.Time, message string) Result {
	age := c.opt.Now().Sub(since)
	if since.IsZero() {
		age = 0
	}
	return Result{After: c.jittered(min(max(age/4, c.opt.MinDelay), c.opt.MaxDelay)), Message: message}
}

// slow asks to be called again for something that waits for people.
func (c *Client) slow(message string) Result {
	return Result{After: c.jittered(c.opt.MaxDelay), Message: message}
}

// jittered adds up to a quarter, so that many waits do not march in step.
func (c *Client) jittered(d time.Duration) time.Duration {
	jitter := rand.Float64
	if c.opt.Jitter != nil {
		jitter = c.opt.Jitter
	}
	return d + time.Duration(jitter()*float64(d)/4)
}

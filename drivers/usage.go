// SPDX-License-Identifier: Apache-2.0

package drivers

import "context"

// UsageReporter is an optional power of a driver: it tells what workloads have
// reserved, for autoscaling and for people.
type UsageReporter interface {
	// Usage returns what is reserved of each node that answers, some seconds at
	// most. What reserves nothing but has a limit counts with its limit; what
	// does not run counts nothing. The conductor calls it as often as Health,
	// with the same kind of job.
	Usage(ctx context.Context, job *Job) ([]Reserved, error)
}

// Reserved is what workloads have reserved of a node.
type Reserved struct {
	NodeID   string
	MilliCPU int64 // thousandths of a CPU
	Memory   int64 // bytes
}

// SPDX-License-Identifier: Apache-2.0

// Command api measures the REST API: real keelsond processes, the real
// MariaDB, RabbitMQ and Keystone of the lab, and databases of up to 100,000
// clusters.
//
//	make bench                                    everything, some minutes
//	make bench BENCH=-quick                       a first look, about two minutes
//	make bench KEELSON_BENCH_REQUESTS=1000000     memory and leaks after a million requests
//
// Each figure stands beside a yardstick that is measured in the same seconds:
// the bare net/http with one indexed query and the JSON of the same bytes (see
// yardstick.go). The two take turns in short slices, so that whatever else the
// machine does hits both alike: the ratios can be believed on a busy machine,
// the figures themselves can not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	keelsond    string
	slice       time.Duration // how long one of the two is measured at a time
	turns       int           // slices of each
	connections int
	most        int // clusters in the largest database
	requests    int // after which memory and leaks are looked at
	only        string
	profile     string
}

func main() {
	if address := os.Getenv(yardstickAt); address != "" {
		fmt.Fprintln(os.Stderr, "yardstick:", serveYardstick(address))
		os.Exit(1)
	}
	var o options
	quick := flag.Bool("quick", false, "a short run: 10,000 clusters instead of 100,000, 10,000 requests instead of 100,000, short slices")
	flag.StringVar(&o.keelsond, "keelsond", "bin/keelsond", "the program")
	flag.IntVar(&o.connections, "connections", 8, "how many clients ask at once")
	flag.IntVar(&o.requests, "requests", 0, "after how many requests memory and leaks are looked at (0: as many as there are clusters in the largest database)")
	flag.StringVar(&o.only, "only", "", "measure only the rows whose name has this in it")
	flag.StringVar(&o.profile, "profile", "", "directory for the CPU profile of each row")
	flag.Parse()
	o.slice, o.turns, o.most = time.Second, 10, 100_000
	if *quick {
		o.slice, o.turns, o.most = 400*time.Millisecond, 4, 10_000
	}
	if o.requests == 0 {
		o.requests = o.most
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	s, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Printf("load average %s, %d connections, slices of %s\n\n", loadAverage(), o.connections, o.slice)
	if err := s.coldStart(ctx); err != nil {
		return err
	}
	if err := s.table(ctx); err != nil {
		return err
	}
	if o.only == "" {
		if err := s.manyRequests(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nload average %s\n", loadAverage())
	return nil
}

// target is what the ratio of a row must reach.
type target struct {
	atLeast, atMost float64 // of requests/s; of the median time. 0: none
}

func (t target) judge(rate, time float64) string {
	switch {
	case t.atLeast > 0 && rate < t.atLeast:
		return fmt.Sprintf("MISSES %.2f x the rate", t.atLeast)
	case t.atLeast > 0:
		return fmt.Sprintf("meets %.2f x the rate", t.atLeast)
	case t.atMost > 0 && time > t.atMost:
		return fmt.Sprintf("MISSES %.2f x the time", t.atMost)
	case t.atMost > 0:
		return fmt.Sprintf("meets %.2f x the time", t.atMost)
	}
	return ""
}

// table measures and prints the rows.
func (s *site) table(ctx context.Context) error {
	fmt.Printf("%-34s %9s %6s %9s %9s %7s %9s %7s %8s  %s\n", "", "yardst./s", "ratio", "keelson/s", "p50 ms", "p99/50", "CPU µs", "ratio", "allocs", "target")
	for _, row := range s.rows() {
		if !strings.Contains(row.name, s.only) {
			continue
		}
		if err := row.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		yard, ours, err := s.compare(ctx, row)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		verdict := row.target.judge(ours.rate()/yard.rate(), float64(ours.quantile(0.5))/float64(yard.quantile(0.5)))
		if tail := ours.tail(); row.target.atLeast > 0 && tail >= 5 {
			verdict += ", MISSES p99 < 5 x p50"
		}
		fmt.Printf("%-34s %9.0f %6.2f %9.0f %9.2f %7.1f %9.0f %7.2f %8.0f  %s\n", row.name,
			yard.rate(), ours.rate()/yard.rate(), ours.rate(), milliseconds(ours.quantile(0.5)), ours.tail(),
			ours.perRequest(ours.cpu), ours.perRequest(ours.cpu)/yard.perRequest(yard.cpu), ours.perRequest(ours.allocations), verdict)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

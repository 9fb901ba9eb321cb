package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/ironic"
)

func main() {
	ctx := context.Background()
	c, _ := ironic.New(ironic.Options{Endpoint: "http://127.0.0.1:16385", Logger: slog.New(slog.DiscardHandler)})
	start := time.Now()
	run := func(what string, f func() (ironic.Result, error)) error {
		for {
			r, err := f()
			fmt.Printf("%6.2f %-9s %+v perm=%v err=%v\n", time.Since(start).Seconds(), what, r, fault.IsPermanent(err), err)
			if err != nil && fault.IsPermanent(err) || r.Done {
				return err
			}
			time.Sleep(max(r.After, 300*time.Millisecond))
		}
	}
	run("enroll", func() (ironic.Result, error) { _, r, err := c.Enroll(ctx, ironic.EnrollRequest{Name: "bm-1", ResourceClass: "x"}); return r, err })
	var a ironic.Allocation
	run("allocate", func() (r ironic.Result, err error) { a, r, err = c.Allocate(ctx, ironic.AllocationRequest{Key: "h1", ResourceClass: "x"}); return })
	err := run("deploy", func() (ironic.Result, error) {
		return c.Deploy(ctx, ironic.DeployRequest{NodeID: a.NodeID, AllocationID: a.ID, Image: ironic.Image{Href: "http://x/y"}, ConfigDrive: ironic.ConfigDrive{UserData: "x"}})
	})
	fmt.Println("reason:", fault.Reason(err, "none"))
	run("release", func() (ironic.Result, error) { return c.Release(ctx, a.NodeID, a.ID) })
	run("allocate", func() (r ironic.Result, err error) { a, r, err = c.Allocate(ctx, ironic.AllocationRequest{Key: "h1", ResourceClass: "x"}); return })
	run("deploy", func() (ironic.Result, error) {
		return c.Deploy(ctx, ironic.DeployRequest{NodeID: a.NodeID, AllocationID: a.ID, Image: ironic.Image{Href: "http://x/y"}})
	})
	run("release", func() (ironic.Result, error) { return c.Release(ctx, a.NodeID, a.ID) })
}

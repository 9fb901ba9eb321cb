// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"fmt"
	"testing"

	"github.com/moby/moby/api/types/container"
	swarmapi "github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/keelson/keelson/drivers"
)

// What tasks and plain containers reserve is counted on the node that they are
// on, each once; what has a limit only counts with it, what stands still does
// not.
func TestUsageIsWhatTasksAndContainersReserve(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.run(c.Operation(drivers.Create))
	defer c.run(c.Operation(drivers.Delete))
	c.loadImage()
	api := c.docker("blue-master-0")
	usage := func() string {
		reported, err := newDriver().(drivers.UsageReporter).Usage(t.Context(), c.Look())
		if err != nil || len(reported) != 1 || reported[0].NodeID != c.named("blue-master-0").ID {
			return fmt.Sprint(reported, err)
		}
		return fmt.Sprintf("%d m, %d MiB", reported[0].MilliCPU, reported[0].Memory>>20)
	}
	want := func(want string) {
		t.Helper()
		c.eventually("reserved is "+want, func() (bool, string) { got := usage(); return got == want, got })
	}
	want("0 m, 0 MiB")

	// docker service create --reserve-memory 64m --reserve-cpu 0.25 --limit-memory 128m
	sleep := []string{"/bin/busybox", "sh", "-c", "sleep 1000"}
	if _, err := api.ServiceCreate(t.Context(), client.ServiceCreateOptions{Spec: swarmapi.ServiceSpec{
		Annotations: swarmapi.Annotations{Name: "web"},
		TaskTemplate: swarmapi.TaskSpec{
			ContainerSpec: &swarmapi.ContainerSpec{Image: "busybox", Command: sleep},
			Resources: &swarmapi.ResourceRequirements{
				Reservations: &swarmapi.Resources{NanoCPUs: 250_000_000, MemoryBytes: 64 << 20},
				Limits:       &swarmapi.Limit{MemoryBytes: 128 << 20},
			},
		},
		EndpointSpec: &swarmapi.EndpointSpec{Mode: swarmapi.ResolutionModeDNSRR},
	}}); err != nil {
		t.Fatal(err)
	}
	want("250 m, 64 MiB")

	// docker run --memory 96m --cpus 0.5
	made, err := api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config:     &container.Config{Image: "busybox", Cmd: sleep},
		HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 96 << 20, NanoCPUs: 500_000_000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want("250 m, 64 MiB") // it does not run yet
	if _, err := api.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	want("750 m, 160 MiB")
	if _, err := api.ContainerRemove(t.Context(), made.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	want("250 m, 64 MiB")
}

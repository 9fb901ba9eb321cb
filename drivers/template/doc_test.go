// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/drivers/conformance"
	"github.com/keelson/keelson/drivers/plugin/plugintest"
)

func TestMain(m *testing.M) {
	plugintest.Main(map[string]func(string) drivers.Driver{"hive": func(string) drivers.Driver { return &Driver{} }})
	os.Exit(m.Run())
}

// The tutorial shows this driver, all of it and in its order, and it is as
// short as the tutorial says.
func TestTheTutorialShowsThisDriver(t *testing.T) {
	code, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/writing-a-driver.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
		shown.WriteString(block[1] + "\n")
	}
	lines := func(code string) []string {
		return strings.FieldsFunc(code, func(r rune) bool { return r == '\n' })
	}
	if diff := cmp.Diff(lines(string(code)), lines(shown.String())); diff != "" {
		t.Errorf("docs/writing-a-driver.md shows another driver (-main.go +docs):\n%s", diff)
	}
	if n := strings.Count(string(code), "\n"); n >= 200 {
		t.Errorf("main.go has %d lines, the tutorial promises less than 200", n)
	}
}

// As a program of its own the driver says and plans the same.
func TestTheDriverIsAPlugin(t *testing.T) {
	opts, _ := plugintest.Install(t, "hive")
	program := plugintest.Named(t, plugintest.Load(t, opts), "hive")
	if diff := cmp.Diff((&Driver{}).Info(), program.Info()); diff != "" {
		t.Errorf("info (-here +there):\n%s", diff)
	}
	cloud := conformance.NewCloud(t, conformance.NewMemory(), drivers.Template{COE: "hive", ServerType: "vm"})
	cloud.Resize(3, 2)
	job := cloud.Job(cloud.Operation(drivers.Create))
	here, err := (&Driver{}).Plan(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	there, err := program.Plan(t.Context(), job)
	if diff := cmp.Diff(here, there); err != nil || diff != "" {
		t.Errorf("plan: %v (-here +there):\n%s", err, diff)
	}
	outcome, err := program.Run(t.Context(), job, drivers.Step{Name: "node.place", NodeID: job.Nodes[0].ID})
	if err != nil || outcome.Message != "placed on host-0" {
		t.Errorf("a step: %+v, %v", outcome, err)
	}
}

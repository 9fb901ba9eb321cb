// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestTargetsAreJudged(t *testing.T) {
	rate, time := target{atLeast: 0.6}, target{atMost: 1.2}
	for _, test := range []struct {
		target     target
		rate, time float64
		want       string
	}{
		{rate, 0.6, 9, "meets 0.60 x the rate"},
		{rate, 0.59, 0, "MISSES 0.60 x the rate"},
		{time, 0, 1.2, "meets 1.20 x the time"},
		{time, 9, 1.21, "MISSES 1.20 x the time"},
		{target{}, 0, 9, ""},
	} {
		if got := test.target.judge(test.rate, test.time); got != test.want {
			t.Errorf("%+v with %v and %v: %q, want %q", test.target, test.rate, test.time, got, test.want)
		}
	}
}

func TestFiguresOfAResult(t *testing.T) {
	r := result{elapsed: 2 * time.Second}
	for i := 101; i > 0; i-- {
		r.took = append(r.took, time.Duration(i)*time.Millisecond)
	}
	if got := r.rate(); got != 50.5 {
		t.Errorf("%v requests a second, want 50.5", got)
	}
	if got := r.quantile(0.5); got != 51*time.Millisecond {
		t.Errorf("the median is %v, want 51 ms", got)
	}
	if got := r.quantile(0.99); got != 100*time.Millisecond {
		t.Errorf("the slowest hundredth takes %v, want 100 ms", got)
	}
	if got := r.perRequest(202); got != 2 {
		t.Errorf("%v for each request, want 2", got)
	}
}

func TestRequestsOnTheWire(t *testing.T) {
	wire := request{method: "POST", path: "/v1/clusters", token: "secret", body: func() string { return `{"a": 1}` }}.bytes("host:1")
	got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil || string(body) != `{"a": 1}` {
		t.Errorf("the body is %q, error %v", body, err)
	}
	if got.Method != "POST" || got.URL.Path != "/v1/clusters" || got.Host != "host:1" || got.Header.Get("X-Auth-Token") != "secret" {
		t.Errorf("read back as %+v", got)
	}
}

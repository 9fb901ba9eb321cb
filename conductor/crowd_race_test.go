// SPDX-License-Identifier: Apache-2.0

//go:build race

package conductor_test

// creates is how many clusters TestCrowd makes. The race detector makes each
// one some times as dear and finds what there is with fewer; test/run has the
// full number without it.
const creates = 60

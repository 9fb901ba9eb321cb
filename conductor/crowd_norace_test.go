// SPDX-License-Identifier: Apache-2.0

//go:build !race

package conductor_test

// creates is how many clusters TestCrowd makes.
const creates = 500

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"math/rand/v2"
	"strconv"
)

var greek = []string{
	"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
	"nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}

// generatedName is the name of a resource that was not given one, such as
// omicron-17-cluster. It need not be unique.
func generatedName(kind string) string {
	return greek[rand.N(len(greek))] + "-" + strconv.Itoa(1+rand.N(24)) + "-" + kind
}

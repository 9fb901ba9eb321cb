// SPDX-License-Identifier: Apache-2.0

package model

// DriverStateContext and the cluster's uuid are the context in which the
// state of a cluster's driver is sealed.
const DriverStateContext = "driver-state"

// Sealed is a secret in the database.
type Sealed struct {
	Table   string
	ID      int64    // of the row
	Context []string // whose it is, for ca.Sealer
	Bytes   []byte
}

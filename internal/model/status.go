// SPDX-License-Identifier: Apache-2.0

package model

import "strings"

// Status is a cluster's or node group's status as users see it. The values
// are those of the Container Infrastructure API.
type Status string

// Statuses that Keelson itself sets.
const (
	CreateInProgress Status = "CREATE_IN_PROGRESS"
	CreateFailed     Status = "CREATE_FAILED"
	CreateComplete   Status = "CREATE_COMPLETE"
	UpdateInProgress Status = "UPDATE_IN_PROGRESS"
	UpdateFailed     Status = "UPDATE_FAILED"
	UpdateComplete   Status = "UPDATE_COMPLETE"
	DeleteInProgress Status = "DELETE_IN_PROGRESS"
	DeleteFailed     Status = "DELETE_FAILED"
	DeleteComplete   Status = "DELETE_COMPLETE"
)

// InProgress tells whether an operation is changing the thing.
func (s Status) InProgress() bool { return strings.HasSuffix(string(s), "_IN_PROGRESS") }

// Failed tells whether the last operation failed.
func (s Status) Failed() bool { return strings.HasSuffix(string(s), "_FAILED") }

// Ready tells whether the thing may be changed: any …_COMPLETE but
// DELETE_COMPLETE.
func (s Status) Ready() bool {
	return strings.HasSuffix(string(s), "_COMPLETE") && s != DeleteComplete
}

// Updatable tells whether the node groups of a cluster in this status may be
// changed; operations that are asked for meanwhile wait for each other.
func (s Status) Updatable() bool { return s.Ready() || s == UpdateInProgress || s == UpdateFailed }

// Resizable tells whether a cluster in this status may be resized: beside
// those that may be updated, one that could not be created, which is tried
// again.
func (s Status) Resizable() bool { return s.Updatable() || s == CreateFailed }

// Renewable tells whether a cluster in this status may be upgraded and have its
// authorities replaced. Magnum wants a …_COMPLETE; here one that failed can be
// tried again.
func (s Status) Renewable() bool { return s.Ready() || s == UpdateFailed }

// Noun names what an operation of kind k does, at the head of a sentence.
func (k OperationKind) Noun() string {
	switch k {
	case OpCreate:
		return "Creation"
	case OpUpdate:
		return "Update"
	case OpUpgrade:
		return "Upgrade"
	case OpRotateCA:
		return "Rotation of the authorities"
	case OpRebuild:
		return "Rebuild"
	case OpRepair:
		return "Repair"
	case OpDelete:
		return "Deletion"
	default:
		return string(k)
	}
}

// During, After and Broken are the statuses while an operation of kind k
// runs, when it has ended well and when it has failed.
func (k OperationKind) During() Status { return k.status("_IN_PROGRESS") }

// After is the status when the operation has ended well.
func (k OperationKind) After() Status { return k.status("_COMPLETE") }

// Broken is the status when the operation has failed.
func (k OperationKind) Broken() Status { return k.status("_FAILED") }

func (k OperationKind) status(suffix string) Status {
	switch k {
	case OpCreate:
		return Status("CREATE" + suffix)
	case OpDelete:
		return Status("DELETE" + suffix)
	default:
		return Status("UPDATE" + suffix)
	}
}

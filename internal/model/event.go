// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strings"
	"time"
)

// EventKind says what an event is about.
type EventKind string

// Kinds of events, as the API has them.
const (
	EventOperationStart EventKind = "operation.start"
	EventOperationEnd   EventKind = "operation.end"
	EventOperationError EventKind = "operation.error"
	EventStepStart      EventKind = "step.start"
	EventStepEnd        EventKind = "step.end"
	EventStepError      EventKind = "step.error"
	EventClusterStatus  EventKind = "cluster.status"
	EventClusterHealth  EventKind = "cluster.health"
	EventAutoscale      EventKind = "autoscale"
)

// Levels of events.
const (
	LevelInfo    = "info"
	LevelWarning = "warning"
	LevelError   = "error"
)

// Event is something that happened to a cluster, told to people. It is written
// in the transaction that makes it happen; those of one cluster have ids in the
// order in which they became visible. Events outlive their cluster, as
// operations do.
type Event struct {
	ID          int64     `gorm:"primaryKey;index:events_cluster,priority:2"`
	ClusterID   string    `gorm:"size:36;index:events_cluster,priority:1"` // the cluster's uuid
	OperationID string    `gorm:"size:36;index"`                           // the operation's uuid; empty when it is about none
	Kind        EventKind `gorm:"size:32"`
	Level       string    `gorm:"size:16"`
	Step        string    `gorm:"size:64"`
	Node        string    `gorm:"size:63"` // name
	Message     string    `gorm:"type:text"`
	UserID      string    `gorm:"size:255"`
	RequestID   string    `gorm:"size:64"`
	CreatedAt   time.Time `gorm:"index"`
}

// Autoscaling is whether and how far a cluster grows by itself, and what is
// known of its usage. Nil settings are those of the cluster's labels or of the
// configuration.
type Autoscaling struct {
	ClusterID        string `gorm:"primaryKey;size:36"`
	Enabled          *bool
	ThresholdPercent *int
	SettleSeconds    *int

	Decision  *string    `gorm:"type:text"` // what was decided last, for people
	DecidedAt *time.Time // when that was first decided
	GrownAt   *time.Time // when a node was last added

	Nodes     []NodeUsage `gorm:"serializer:json;type:mediumtext"` // at SampledAt
	SampledAt *time.Time
}

// AutoscaleSettings are the settings that count.
type AutoscaleSettings struct {
	Enabled          bool
	ThresholdPercent int
	Settle           time.Duration // rest after the last operation
}

// Defaults of autoscaling, and the label of clusters that switches it on: that
// of Magnum.
const (
	DefaultThresholdPercent = 80
	DefaultSettle           = 5 * time.Minute
	LabelAutoscaling        = "auto_scaling_enabled"
)

// Settings are the user's, else those of the cluster's labels, else the
// defaults.
func (a *Autoscaling) Settings(c *Cluster) AutoscaleSettings {
	s := AutoscaleSettings{ThresholdPercent: DefaultThresholdPercent, Settle: DefaultSettle}
	switch strings.ToLower(strings.TrimSpace(c.Labels[LabelAutoscaling])) {
	case "1", "t", "true", "on", "y", "yes":
		s.Enabled = true
	}
	if a.Enabled != nil {
		s.Enabled = *a.Enabled
	}
	if a.ThresholdPercent != nil {
		s.ThresholdPercent = *a.ThresholdPercent
	}
	if a.SettleSeconds != nil {
		s.Settle = time.Duration(*a.SettleSeconds) * time.Second
	}
	return s
}

// NodeUsage is what is reserved of a node. CPUs are thousandths.
type NodeUsage struct {
	Name           string `json:"name"`
	CPUs           int64  `json:"cpus"`
	CPUsReserved   int64  `json:"cpus_reserved"`
	Memory         int64  `json:"memory"` // bytes
	MemoryReserved int64  `json:"memory_reserved"`
}

// UsageSample is what was reserved of a cluster at one time, in the units of
// NodeUsage.
type UsageSample struct {
	ID             int64  `gorm:"primaryKey;index:usage_samples_cluster,priority:2"`
	ClusterID      string `gorm:"size:36;index:usage_samples_cluster,priority:1"`
	CPUs           int64  `gorm:"column:cpus"`
	CPUsReserved   int64  `gorm:"column:cpus_reserved"`
	Memory         int64
	MemoryReserved int64
	CreatedAt      time.Time
}

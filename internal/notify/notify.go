// SPDX-License-Identifier: Apache-2.0

// Package notify tells other services what becomes of clusters, as Magnum does:
// CADF events in the envelope of oslo.messaging's messagingv2 driver.
package notify

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/internal/model"
)

// Priorities are the keys' second halves: messages go to <topic>.<priority>.
var Priorities = []string{priorityInfo, priorityError}

const (
	priorityInfo  = "info"
	priorityError = "error"
)

// clusterType is CADF's name for a cluster, and for who tells of it.
const clusterType = "service/magnum/cluster"

// envelope is what oslo.messaging puts around a message.
type envelope struct {
	Version string `json:"oslo.version"`
	Message string `json:"oslo.message"` // JSON
}

// message is a notification as oslo.messaging's notifier makes it, with what
// its driver adds: an id by which listeners know doubled ones, and the
// request's context.
type message struct {
	MessageID   string `json:"message_id"`
	PublisherID string `json:"publisher_id"`
	EventType   string `json:"event_type"`
	Priority    string `json:"priority"`
	Payload     event  `json:"payload"`
	Timestamp   string `json:"timestamp"`
	UniqueID    string `json:"_unique_id"`

	UserID          string  `json:"_context_user_id"`
	ProjectID       string  `json:"_context_project_id"`
	DomainID        *string `json:"_context_domain_id"`
	RequestID       string  `json:"_context_request_id"`
	GlobalRequestID *string `json:"_context_global_request_id"`
}

// event is a CADF event, with the fields in pycadf's order.
type event struct {
	TypeURI   string   `json:"typeURI"`
	EventType string   `json:"eventType"`
	ID        string   `json:"id"`
	EventTime string   `json:"eventTime"`
	Action    string   `json:"action"`
	Outcome   string   `json:"outcome"`
	Observer  resource `json:"observer"`
	Initiator resource `json:"initiator"`
	Target    resource `json:"target"`
}

type resource struct {
	ID          string       `json:"id"`
	TypeURI     string       `json:"typeURI"`
	Name        string       `json:"name,omitempty"`
	Attachments []attachment `json:"attachments,omitempty"`
	UserID      string       `json:"user_id,omitempty"`
	ProjectID   string       `json:"project_id,omitempty"`
	DomainID    string       `json:"domain_id,omitempty"`
}

type attachment struct {
	TypeURI string            `json:"typeURI"`
	Content model.ClusterData `json:"content"`
	Name    string            `json:"name"`
}

// action is the operation in CADF's words: whatever changes a cluster that
// stays is an update.
func action(kind model.OperationKind) string {
	switch kind {
	case model.OpCreate:
		return "create"
	case model.OpDelete:
		return "delete"
	default:
		return "update"
	}
}

func priority(o model.Outcome) string {
	if o == model.OutcomeFailure {
		return priorityError
	}
	return priorityInfo
}

// Encode renders a notification of the publisher, who is container-infra.<host>,
// for the wire. The same notification gives the same text each time.
func Encode(n *model.Notification, publisher string) ([]byte, error) {
	at := n.CreatedAt.UTC()
	id, err := uuid.Parse(n.UUID)
	if err != nil {
		return nil, err
	}
	about := func(what string) string { return uuid.NewSHA1(id, []byte(what)).String() }
	text, err := marshal(message{
		MessageID: n.UUID, PublisherID: publisher, EventType: "magnum.cluster." + action(n.Kind),
		Priority:  strings.ToUpper(priority(n.Outcome)),
		Timestamp: at.Format("2006-01-02 15:04:05.000000"),
		UniqueID:  strings.ReplaceAll(n.UUID, "-", ""),
		Payload: event{
			TypeURI: "http://schemas.dmtf.org/cloud/audit/1.0/event", EventType: "activity",
			ID: about("event"), EventTime: at.Format("2006-01-02T15:04:05.000000-0700"),
			Action: action(n.Kind), Outcome: string(n.Outcome),
			Observer: resource{ID: about("observer"), TypeURI: clusterType},
			Initiator: resource{
				ID: about("initiator"), TypeURI: "service/security/account/user",
				UserID: n.UserID, ProjectID: n.ProjectID, DomainID: n.UserDomainID,
			},
			Target: resource{
				ID: n.ClusterID, Name: n.ClusterName, TypeURI: clusterType,
				Attachments: []attachment{{TypeURI: clusterType, Content: n.Cluster, Name: "cluster_data"}},
			},
		},
		UserID: n.UserID, ProjectID: n.ProjectID, DomainID: orNull(n.UserDomainID),
		RequestID: n.RequestID, GlobalRequestID: orNull(n.GlobalRequestID),
	})
	if err != nil {
		return nil, err
	}
	return marshal(envelope{"2.0", string(text)})
}

// marshal writes JSON without the escapes that are for HTML.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// sendTime bounds one batch: reading it, sending it and removing it.
const sendTime = 20 * time.Second

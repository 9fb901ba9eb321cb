// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

func operationCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operation",
		Short: "What users have asked for, and what became of it",
		Long:  "What users have asked for, and what became of it. Each request that changes a cluster is an operation, which a conductor carries out.",
	}
	cmd.AddCommand(operationListCommand(load), operationShowCommand(load), operationRetryCommand(load), operationCancelCommand(load))
	return cmd
}

// shownOperation is an operation for operators.
type shownOperation struct {
	UUID       string               `json:"uuid"`
	Kind       model.OperationKind  `json:"kind"`
	State      model.OperationState `json:"state"`
	Undo       bool                 `json:"undo"` // failed, what it half made is being removed
	Reason     *string              `json:"reason"`
	Cluster    string               `json:"cluster"`
	Project    string               `json:"project_id"`
	User       string               `json:"user_id"`
	Request    string               `json:"request_id"`
	Conductor  string               `json:"conductor"` // that works on it
	LeaseUntil *time.Time           `json:"lease_until"`
	NotBefore  *time.Time           `json:"not_before"`
	Deadline   *time.Time           `json:"deadline"`
	CreatedAt  time.Time            `json:"created_at"`
	StartedAt  *time.Time           `json:"started_at"`
	FinishedAt *time.Time           `json:"finished_at"`
	Steps      []shownStep          `json:"steps,omitempty"`
}

type shownStep struct {
	Name       string          `json:"name"`
	Node       string          `json:"node"`
	Undo       bool            `json:"undo"`
	State      model.StepState `json:"state"`
	Attempts   int             `json:"attempts"`
	Message    string          `json:"message"`
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt *time.Time      `json:"finished_at"`
}

func shownOperationOf(op *model.Operation) shownOperation {
	return shownOperation{
		UUID: op.UUID, Kind: op.Kind, State: op.State, Undo: op.Undo, Reason: op.Reason, Cluster: op.ClusterID, Project: op.ProjectID,
		User: op.UserID, Request: op.RequestID, Conductor: op.Owner, LeaseUntil: op.LeaseUntil, NotBefore: op.NotBefore, Deadline: op.Deadline,
		CreatedAt: op.CreatedAt, StartedAt: op.StartedAt, FinishedAt: op.FinishedAt,
	}
}

func operationListCommand(load loader) *cobra.Command {
	var format string
	var all bool
	var limit int
	var states []string
	filter := store.OperationFilter{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the operations that have not ended, the newest first",
		Args:  cobra.NoArgs,
		RunE: withStore(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			filter.States = nil
			for _, state := range states {
				if !knownState(model.OperationState(state)) {
					return fmt.Errorf("--state %q: it must be pending, running, done, failed or cancelled", state)
				}
				filter.States = append(filter.States, model.OperationState(state))
			}
			if len(states) == 0 && !all {
				filter.States = []model.OperationState{model.OpPending, model.OpRunning}
			}
			if limit < 1 {
				return errors.New("--limit must be more than 0")
			}
			ops, err := s.ListOperations(cmd.Context(), filter, limit)
			if err != nil {
				return err
			}
			shown := make([]shownOperation, len(ops))
			for i := range ops {
				shown[i] = shownOperationOf(&ops[i])
			}
			if format == "json" {
				return writeJSON(cmd.OutOrStdout(), shown)
			}
			return writeOperations(cmd.OutOrStdout(), shown)
		}),
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	flags.BoolVar(&all, "all", false, "also those that have ended")
	flags.StringSliceVar(&states, "state", nil, "only those that are pending, running, done, failed or cancelled")
	flags.StringVar(&filter.Cluster, "cluster", "", "only those of the cluster with that uuid")
	flags.StringVar(&filter.Project, "project", "", "only those of the project with that id")
	flags.IntVar(&limit, "limit", 100, "how many at most")
	return cmd
}

func knownState(s model.OperationState) bool {
	return s.Terminal() || s == model.OpPending || s == model.OpRunning
}

func writeOperations(to io.Writer, ops []shownOperation) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "UUID\tKIND\tSTATE\tCLUSTER\tPROJECT\tASKED FOR\tCONDUCTOR\tREASON")
	for _, op := range ops {
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", op.UUID, op.Kind, stateWords(op), op.Cluster, op.Project,
			op.CreatedAt.Format(time.RFC3339), orDash(&op.Conductor), orDash(op.Reason))
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

func stateWords(op shownOperation) string {
	if op.Undo && !op.State.Terminal() {
		return string(op.State) + ", undoing"
	}
	return string(op.State)
}

func operationShowCommand(load loader) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "show UUID",
		Short: "Show an operation and its steps",
		Args:  cobra.ExactArgs(1),
		RunE: withOperation(load, func(cmd *cobra.Command, s *store.Store, _ *config.Config, op *model.Operation) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			shown := shownOperationOf(op)
			steps, err := s.Steps(cmd.Context(), op.UUID)
			if err != nil {
				return err
			}
			for _, step := range steps {
				shown.Steps = append(shown.Steps, shownStep{step.Name, step.NodeName, step.Undo, step.State, step.Attempts, step.Message, step.StartedAt, step.FinishedAt})
			}
			if format == "json" {
				return writeJSON(cmd.OutOrStdout(), shown)
			}
			return writeOperation(cmd.OutOrStdout(), shown)
		}),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	return cmd
}

func writeOperation(to io.Writer, op shownOperation) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	var err error
	for _, line := range [][2]string{
		{"uuid", op.UUID},
		{"kind", string(op.Kind)},
		{"state", stateWords(op)},
		{"reason", valueOf(op.Reason)},
		{"cluster", op.Cluster},
		{"project", op.Project},
		{"user", op.User},
		{"request", op.Request},
		{"conductor", op.Conductor},
		{"lease until", timeText(op.LeaseUntil)},
		{"not before", timeText(op.NotBefore)},
		{"deadline", timeText(op.Deadline)},
		{"asked for", timeText(&op.CreatedAt)},
		{"begun", timeText(op.StartedAt)},
		{"ended", timeText(op.FinishedAt)},
	} {
		if line[1] != "" {
			_, e := fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
			err = errors.Join(err, e)
		}
	}
	if len(op.Steps) == 0 {
		return errors.Join(err, w.Flush())
	}
	_, e := fmt.Fprintln(w, "\nSTEP\tNODE\tSTATE\tATTEMPTS\tBEGUN\tENDED\tMESSAGE")
	err = errors.Join(err, e)
	for _, s := range op.Steps {
		name := s.Name
		if s.Undo {
			name = "undo " + name
		}
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", name, cmp.Or(s.Node, "-"), s.State, s.Attempts, timeText(&s.StartedAt), cmp.Or(timeText(s.FinishedAt), "-"), s.Message)
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// withOperation finds the operation that the command names.
func withOperation(load loader, do func(*cobra.Command, *store.Store, *config.Config, *model.Operation) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return withStore(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config) error {
			op, err := s.Operation(cmd.Context(), args[0])
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("there is no operation %s: keelsond operation list --all shows them", args[0])
			}
			if err != nil {
				return err
			}
			return do(cmd, s, cfg, op)
		})(cmd, args)
	}
}

func operationCancelCommand(load loader) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel UUID",
		Short: "Give up an operation, and let a conductor remove what it half made",
		Long: "Give up an operation: it fails as if its time had run out, a conductor removes what it half made and puts back what the request had\n" +
			"changed, and the user reads the reason. A delete can not be given up. A conductor that has it in hand lets go within seconds.",
		Args: cobra.ExactArgs(1),
		RunE: withOperation(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config, op *model.Operation) error {
			// Long enough for the conductor that has it in hand to notice.
			if _, err := s.CancelOperation(cmd.Context(), op.UUID, reason, cfg.Conductor.Lease/2); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "operation %s is given up: the next conductor to take it removes what it half made\n", op.UUID)
			return err
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "the operator of the cloud has given it up", "why, for the user to read")
	return cmd
}

func operationRetryCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "retry UUID",
		Short: "Try an operation again that waits or has failed",
		Long: "Try an operation again. One that has not ended, but waits before it is tried again, is tried at once. Of those that failed a create, a delete\n" +
			"or a rebuild that was the last thing asked of its cluster is asked for anew. What other operations were to bring about was put back\n" +
			"when they failed: their users ask for it again.",
		Args: cobra.ExactArgs(1),
		RunE: withOperation(load, func(cmd *cobra.Command, s *store.Store, cfg *config.Config, op *model.Operation) error {
			again, err := retry(cmd, s, cfg, op)
			if err != nil {
				return err
			}
			says := "operation " + op.UUID + " is tried at once"
			if again != nil {
				says = fmt.Sprintf("operation %s is asked for, in place of %s", again.UUID, op.UUID)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), says)
			return err
		}),
	}
}

// retry tries the operation again and returns the one that takes its place, if
// it is not the same.
func retry(cmd *cobra.Command, s *store.Store, cfg *config.Config, op *model.Operation) (*model.Operation, error) {
	ctx := cmd.Context()
	if !op.State.Terminal() {
		return nil, s.RetryNow(ctx, op.UUID)
	}
	if op.State != model.OpFailed {
		return nil, fmt.Errorf("operation %s is %s: only one that waits or has failed can be tried again", op.UUID, op.State)
	}
	last, err := s.ListOperations(ctx, store.OperationFilter{Cluster: op.ClusterID}, 1)
	if err != nil {
		return nil, err
	}
	if len(last) != 1 || last[0].UUID != op.UUID {
		return nil, fmt.Errorf("more was asked of cluster %s since operation %s", op.ClusterID, op.UUID)
	}
	cluster, err := s.Cluster(ctx, store.Scope{All: true}, op.ClusterID)
	if err != nil {
		return nil, err
	}
	request := store.NewOperation{UserID: op.UserID, UserDomainID: op.UserDomainID, RequestID: "req-" + uuid.NewString(), Deadline: cfg.Conductor.CreateTimeout}
	if minutes := cluster.CreateTimeout; minutes != nil && *minutes > 0 {
		request.Deadline = time.Duration(*minutes) * time.Minute
	}
	switch op.Kind {
	case model.OpCreate:
		return s.RetryCreate(ctx, op.UUID, request)
	case model.OpDelete:
		request.Deadline = 0
		return s.DeleteCluster(ctx, op.ClusterID, request)
	case model.OpRebuild:
		again, err := s.RebuildNodes(ctx, op.ClusterID, op.Spec.Nodes, func(now model.Status) bool { return now == model.UpdateFailed }, request)
		if err == nil && again == nil {
			err = errors.New("none of its nodes is there and ready")
		}
		return again, err
	}
	return nil, fmt.Errorf("operation %s is a failed %s: what it was to bring about was put back, ask for it again through the API", op.UUID, op.Kind)
}

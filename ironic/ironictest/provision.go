// SPDX-License-Identifier: Apache-2.0

package ironictest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// targets are all provision states with what a node in them is on its way to;
// stable states are on their way to nothing.
var targets = map[string]string{
	"enroll": "", "manageable": "", "available": "", "active": "", "error": "", "rescue": "",
	"verifying": "manageable",
	"deploying": "active", "wait call-back": "active", "deploy failed": "active",
	"deleting": "available",
	"cleaning": "available", "clean wait": "available", "clean failed": "available",
	"inspecting": "manageable", "inspect wait": "manageable", "inspect failed": "manageable",
	"adopting": "active", "adopt failed": "active",
	"rescuing": "rescue", "rescue wait": "rescue", "rescue failed": "rescue",
	"unrescuing": "active", "unrescue failed": "active",
}

// updateAllowed are the states on the way to something in which a node may be
// patched all the same.
var updateAllowed = map[string]bool{
	"deploy failed": true, "inspecting": true, "inspect failed": true, "inspect wait": true, "clean failed": true,
	"error": true, "verifying": true, "adopt failed": true, "rescue failed": true, "unrescue failed": true,
}

// verbs are what PUT states/provision understands.
var verbs = map[string]struct {
	verb  string
	since int
}{
	"active": {"deploy", 1}, "deploy": {"deploy", 73}, "rebuild": {"rebuild", 1},
	"deleted": {"delete", 1}, "undeploy": {"delete", 73},
	"manage": {"manage", 4}, "provide": {"provide", 4}, "inspect": {"inspect", 6}, "abort": {"abort", 13},
	"clean": {"clean", 15}, "adopt": {"adopt", 17}, "rescue": {"rescue", 38}, "unrescue": {"unrescue", 38},
}

// from are the states that a verb may start from.
var from = map[string][]string{
	"manage":   {"enroll", "available", "clean failed", "inspect failed", "adopt failed"},
	"provide":  {"manageable"},
	"inspect":  {"manageable", "inspect failed"},
	"clean":    {"manageable"},
	"adopt":    {"manageable", "adopt failed"},
	"deploy":   {"available", "deploy failed"},
	"rebuild":  {"active", "deploy failed", "error"},
	"delete":   {"active", "wait call-back", "deploy failed", "error", "rescue", "rescue wait", "rescue failed", "unrescue failed"},
	"abort":    {"clean wait", "inspect wait", "rescue wait"},
	"rescue":   {"active", "rescue", "rescue failed", "unrescue failed"},
	"unrescue": {"rescue", "rescue failed", "unrescue failed"},
}

// event is something due to happen to a node.
type event struct {
	At     time.Time `json:"at"`
	State  string    `json:"state,omitempty"`  // provision state to enter
	Target string    `json:"target,omitempty"` // instead of the state's usual one
	Power  string    `json:"power,omitempty"`  // power state reached
	Error  string    `json:"error,omitempty"`  // last error to leave
	Fault  string    `json:"fault,omitempty"`  // fault to report; brings maintenance
	Lock   bool      `json:"lock,omitempty"`   // a conductor holds the node from now on
	Forget bool      `json:"forget,omitempty"` // the instance is gone
}

func (s *Server) provision(c *call) (any, error) {
	args, err := c.arguments("target", "configdrive", "clean_steps", "deploy_steps", "rescue_password", "disable_ramdisk")
	if err != nil {
		return nil, err
	}
	target := text(args["target"])
	if target == nil {
		return nil, refuse(http.StatusBadRequest, "Missing mandatory parameter: target")
	}
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	verb, known := verbs[*target]
	switch {
	case known && c.minor < verb.since:
		return nil, refuse(http.StatusNotAcceptable, "Request not acceptable.")
	case n.Maintenance && (verb.verb == "deploy" || verb.verb == "rebuild"):
		return nil, refuse(http.StatusBadRequest, "The provisioning operation can't be performed on node %s because it's in maintenance mode.", n.UUID)
	}
	if !known || !slices.Contains(from[verb.verb], n.ProvisionState) {
		if err := unlocked(n); err != nil {
			return nil, err
		}
		return nil, refuse(http.StatusBadRequest, "The requested action \"%s\" can not be performed on node \"%s\" while it is in state \"%s\".", *target, n.UUID, n.ProvisionState)
	}
	drive := args["configdrive"]
	switch {
	case len(drive) > 0 && string(drive) != "null" && verb.verb != "deploy" && verb.verb != "rebuild":
		return nil, refuse(http.StatusBadRequest, "Adding a config drive is only supported when setting provision state to active, rebuild or deploy")
	case len(drive) > 0 && drive[0] == '{' && c.minor < 56:
		return nil, refuse(http.StatusBadRequest, "Providing a JSON object for configdrive is only supported starting with API version 1.56")
	case verb.verb == "clean" && len(list(args["clean_steps"])) == 0:
		return nil, refuse(http.StatusBadRequest, "\"clean_steps\" is required when setting target provision state to clean")
	case verb.verb == "rescue" && text(args["rescue_password"]) == nil:
		return nil, refuse(http.StatusBadRequest, "A non-empty \"rescue_password\" is required when setting target provision state to rescue")
	case n.Protected && (verb.verb == "delete" || verb.verb == "rebuild"):
		return nil, refuse(http.StatusForbidden, "Node %s is protected and cannot be undeployed, rebuilt or deleted.", n.UUID)
	}
	if err := unlocked(n); err != nil {
		return nil, err
	}
	if verb.verb == "deploy" || verb.verb == "rebuild" {
		delete(n.InstanceInfo, "configdrive")
		delete(s.drives, n.UUID)
		if len(drive) > 0 && string(drive) != "null" {
			s.drives[n.UUID] = slices.Clone(drive)
			n.InstanceInfo["configdrive"] = "present" // its content is a secret; see Server.ConfigDrive
		}
	}
	n.LastError = nil
	s.plan(n, verb.verb)
	c.location = "/nodes/" + c.PathValue("node") + "/states"
	return nil, nil
}

// plan notes what will come of a verb.
func (s *Server) plan(n *node, verb string) {
	t := s.opt.Timing
	at := s.now()
	// during enters a state at once or when the last is over, for d.
	during := func(state string, d time.Duration, lock bool) {
		n.Due = append(n.Due, event{At: at, State: state, Lock: lock})
		at = at.Add(d)
	}
	end := func(state string) { n.Due = append(n.Due, event{At: at, State: state}) }
	// fails ends in the failure that a test has asked for.
	fails := func(verb, state, fault string) bool {
		lastError, ok := n.Fail[verb]
		if ok {
			delete(n.Fail, verb)
			n.Due = append(n.Due, event{At: at, State: state, Error: lastError, Fault: fault})
		}
		return ok
	}
	clean := func(into, target string) {
		n.Due = append(n.Due, event{At: at, State: "cleaning", Target: target, Lock: true})
		at = at.Add(t.Clean)
		if t.CleanWait > 0 {
			n.Due = append(n.Due, event{At: at, State: "clean wait", Target: target})
			at = at.Add(t.CleanWait)
			n.Due = append(n.Due, event{At: at, State: "cleaning", Target: target, Lock: true})
			at = at.Add(t.Clean)
		}
		if !fails("clean", "clean failed", "clean failure") {
			end(into)
		}
	}

	switch verb {
	case "manage":
		if n.ProvisionState == "enroll" {
			during("verifying", t.Verify, true)
			if fails("manage", "enroll", "") {
				return
			}
		}
		end("manageable")
	case "provide":
		clean("available", "")
	case "clean":
		clean("manageable", "manageable")
	case "inspect":
		during("inspecting", t.Inspect, true)
		if !fails("inspect", "inspect failed", "") {
			end("manageable")
		}
	case "adopt":
		during("adopting", 0, true)
		if !fails("adopt", "adopt failed", "") {
			end("active")
		}
	case "deploy", "rebuild":
		during("deploying", t.Deploy, true)
		if t.CallBack > 0 {
			during("wait call-back", t.CallBack, false)
			if fails("callback", "deploy failed", "") {
				return
			}
			during("deploying", t.Deploy, true)
		}
		if !fails("deploy", "deploy failed", "") {
			end("active")
		}
	case "delete":
		during("deleting", t.Undeploy, true)
		if fails("delete", "error", "") {
			return
		}
		n.Due = append(n.Due, event{At: at, Forget: true, Lock: true})
		clean("available", "")
		if n.Retired {
			n.Due[len(n.Due)-1].State = "manageable"
		}
	case "abort":
		n.Due = nil
		n.Due = append(n.Due, event{At: at, State: map[string]string{
			"clean wait": "clean failed", "inspect wait": "inspect failed", "rescue wait": "rescue failed",
		}[n.ProvisionState], Error: "aborted by the operator"})
	case "rescue":
		during("rescuing", t.Deploy, true)
		end("rescue")
	case "unrescue":
		during("unrescuing", t.Deploy, true)
		end("active")
	}
	// The first step is taken before the request is answered.
	s.happen(n, n.Due[0])
	n.Due = n.Due[1:]
}

// advance lets happen what is due.
func (s *Server) advance() {
	now := s.now()
	for _, n := range s.state.Nodes {
		for len(n.Due) > 0 && !n.Due[0].At.After(now) {
			e := n.Due[0]
			n.Due = n.Due[1:]
			s.happen(n, e)
		}
	}
	for _, a := range s.state.Allocations {
		if a.State == "allocating" && !a.DueAt.After(now) {
			s.allocate(a)
		}
	}
}

func (s *Server) happen(n *node, e event) {
	n.Reservation = nil
	if e.Lock {
		n.Reservation = ptr(conductor)
	}
	if e.State != "" {
		n.ProvisionState = e.State
		n.TargetProvisionState = optional(cmp.Or(e.Target, targets[e.State]))
		n.ProvisionUpdatedAt = &e.At
	}
	if e.Power != "" {
		n.PowerState, n.TargetPowerState = &e.Power, nil
	}
	if e.Error != "" {
		n.LastError = &e.Error
		if e.Power == "" && e.State == "" {
			n.TargetPowerState = nil // a power change failed
		}
	}
	if e.Fault != "" {
		n.Fault, n.Maintenance, n.MaintenanceReason = &e.Fault, true, &e.Error
	}
	if e.Forget {
		s.freeNode(n)
	}
	n.UpdatedAt = &e.At
}

// freeNode drops the instance and its allocation.
func (s *Server) freeNode(n *node) {
	if n.AllocationUUID != nil {
		s.dropAllocation(*n.AllocationUUID)
	}
	n.InstanceInfo, n.InstanceUUID, n.AllocationUUID = map[string]any{}, nil, nil
	delete(s.drives, n.UUID)
}

// powerTargets are what PUT states/power understands, and where they lead.
var powerTargets = map[string]string{
	"power on": "power on", "power off": "power off", "rebooting": "power on",
	"soft power off": "power off", "soft rebooting": "power on",
}

func (s *Server) power(c *call) (any, error) {
	args, err := c.arguments("target", "timeout")
	if err != nil {
		return nil, err
	}
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	target := text(args["target"])
	if target == nil {
		return nil, refuse(http.StatusBadRequest, "Missing mandatory parameter: target")
	}
	reached, known := powerTargets[*target]
	switch {
	case !known:
		state := "None"
		if n.PowerState != nil {
			state = *n.PowerState
		}
		return nil, refuse(http.StatusBadRequest, "The requested action \"%s\" can not be performed on node \"%s\" while it is in state \"%s\".", *target, c.PathValue("node"), state)
	case n.ProvisionState == "cleaning" || n.ProvisionState == "clean wait":
		return nil, refuse(http.StatusBadRequest, "The requested action \"%s\" can not be performed on node \"%s\" while it is in state \"%s\".", *target, c.PathValue("node"), n.ProvisionState)
	}
	if err := unlocked(n); err != nil {
		return nil, err
	}
	n.TargetPowerState, n.Reservation, n.LastError = &reached, ptr(conductor), nil
	e := event{At: s.now().Add(s.opt.Timing.Power), Power: reached}
	if lastError, ok := n.Fail["power"]; ok {
		delete(n.Fail, "power")
		e.Power, e.Error = "", lastError
	}
	n.Due = append(n.Due, e)
	c.location = "/nodes/" + c.PathValue("node") + "/states"
	return nil, nil
}

// FailNext makes the machine fail at its next try of the verb, leaving
// lastError: "manage", "clean", "inspect", "adopt", "deploy", "callback" (a
// deploy that fails while it waits for the machine; needs Timing.CallBack),
// "delete" or "power". A failed clean also brings maintenance and a fault, as
// in Ironic. It returns the server.
func (s *Server) FailNext(ident, verb, lastError string) *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains([]string{"manage", "clean", "inspect", "adopt", "deploy", "callback", "delete", "power"}, verb) {
		panic(fmt.Sprintf("ironictest: %q cannot be made to fail", verb))
	}
	n := s.mustFind(ident)
	if n.Fail == nil {
		n.Fail = map[string]string{}
	}
	n.Fail[verb] = lastError
	s.saved("make a node fail")
	return s
}

func list(raw json.RawMessage) []any {
	var all []any
	if len(raw) > 0 && json.Unmarshal(raw, &all) != nil {
		return nil
	}
	return all
}

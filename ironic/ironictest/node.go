// SPDX-License-Identifier: Apache-2.0

package ironictest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
)

// settings are the fields of a node that clients write.
type settings struct {
	AutomatedClean      *bool          `json:"automated_clean"`
	BIOSInterface       string         `json:"bios_interface"`
	BootInterface       string         `json:"boot_interface"`
	ChassisUUID         *string        `json:"chassis_uuid"`
	ConductorGroup      string         `json:"conductor_group"`
	ConsoleInterface    string         `json:"console_interface"`
	DeployInterface     string         `json:"deploy_interface"`
	Description         *string        `json:"description"`
	Driver              string         `json:"driver"`
	DriverInfo          map[string]any `json:"driver_info"`
	Extra               map[string]any `json:"extra"`
	InspectInterface    string         `json:"inspect_interface"`
	InstanceInfo        map[string]any `json:"instance_info"`
	InstanceUUID        *string        `json:"instance_uuid"`
	Lessee              *string        `json:"lessee"`
	Maintenance         bool           `json:"maintenance"`
	ManagementInterface string         `json:"management_interface"`
	Name                *string        `json:"name"`
	NetworkData         map[string]any `json:"network_data"`
	NetworkInterface    string         `json:"network_interface"`
	Owner               *string        `json:"owner"`
	PowerInterface      string         `json:"power_interface"`
	Properties          map[string]any `json:"properties"`
	Protected           bool           `json:"protected"`
	ProtectedReason     *string        `json:"protected_reason"`
	RAIDInterface       string         `json:"raid_interface"`
	RescueInterface     string         `json:"rescue_interface"`
	ResourceClass       *string        `json:"resource_class"`
	Retired             bool           `json:"retired"`
	RetiredReason       *string        `json:"retired_reason"`
	Shard               *string        `json:"shard"`
	StorageInterface    string         `json:"storage_interface"`
	VendorInterface     string         `json:"vendor_interface"`
}

// settingNames are their names, in the order in which Ironic lists them.
var settingNames = []string{
	"automated_clean", "bios_interface", "boot_interface", "chassis_uuid", "conductor_group", "console_interface",
	"deploy_interface", "description", "driver", "driver_info", "extra", "inspect_interface", "instance_info", "instance_uuid",
	"lessee", "maintenance", "management_interface", "name", "network_data", "network_interface", "owner", "power_interface",
	"properties", "protected", "protected_reason", "raid_interface", "rescue_interface", "resource_class", "retired",
	"retired_reason", "shard", "storage_interface", "vendor_interface",
}

// node is one machine: what clients set, what Ironic found, and what is due.
type node struct {
	settings
	UUID                 string     `json:"uuid"`
	CreatedAt            time.Time  `json:"created_at"`
	UpdatedAt            *time.Time `json:"updated_at"`
	ProvisionState       string     `json:"provision_state"`
	TargetProvisionState *string    `json:"target_provision_state"`
	ProvisionUpdatedAt   *time.Time `json:"provision_updated_at"`
	PowerState           *string    `json:"power_state"`
	TargetPowerState     *string    `json:"target_power_state"`
	LastError            *string    `json:"last_error"`
	MaintenanceReason    *string    `json:"maintenance_reason"`
	Fault                *string    `json:"fault"`
	Reservation          *string    `json:"reservation"`
	Traits               []string   `json:"traits"`
	AllocationUUID       *string    `json:"allocation_uuid"`

	Due  []event           `json:"due,omitempty"`  // oldest first
	Fail map[string]string `json:"fail,omitempty"` // verb → last_error of its next try
}

// since is the minor version that brought a field; 1 when not named here.
var since = map[string]int{
	"driver_internal_info": 3, "name": 5, "inspection_finished_at": 6, "inspection_started_at": 6, "clean_step": 7,
	"raid_config": 12, "target_raid_config": 12, "network_interface": 20, "resource_class": 21,
	"boot_interface": 31, "console_interface": 31, "deploy_interface": 31, "inspect_interface": 31, "management_interface": 31,
	"power_interface": 31, "raid_interface": 31, "vendor_interface": 31, "storage_interface": 33, "traits": 37,
	"rescue_interface": 38, "bios_interface": 40, "fault": 42, "deploy_step": 44, "conductor_group": 46, "automated_clean": 47,
	"protected": 48, "protected_reason": 48, "conductor": 49, "owner": 50, "description": 51, "allocation_uuid": 52,
	"retired": 61, "retired_reason": 61, "lessee": 65, "network_data": 66, "boot_mode": 75, "secure_boot": 75, "shard": 82,
}

// knows tells whether the request's version has the field.
func (c *call) knows(field string) bool { return since[field] <= c.minor }

// fields are all of a node's in answers, secrets masked.
func (n *node) fields() map[string]any {
	all := map[string]any{}
	raw, err := json.Marshal(n.settings)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		panic(err) // settings came in as JSON
	}
	mask(all["instance_info"], func(key string) bool { return key == "configdrive" || key == "image_url" })
	mask(all["driver_info"], func(key string) bool { return strings.Contains(key, "password") })
	maps.Copy(all, map[string]any{
		"uuid": n.UUID, "created_at": stamp(&n.CreatedAt), "updated_at": stamp(n.UpdatedAt),
		"provision_state": n.ProvisionState, "target_provision_state": n.TargetProvisionState, "provision_updated_at": stamp(n.ProvisionUpdatedAt),
		"power_state": n.PowerState, "target_power_state": n.TargetPowerState,
		"last_error": n.LastError, "maintenance_reason": n.MaintenanceReason, "fault": n.Fault, "reservation": n.Reservation,
		"traits": orEmpty(n.Traits), "allocation_uuid": n.AllocationUUID, "conductor": conductor,
		"console_enabled": false, "driver_internal_info": map[string]any{}, "clean_step": map[string]any{}, "deploy_step": map[string]any{},
		"raid_config": map[string]any{}, "target_raid_config": map[string]any{},
		"inspection_finished_at": nil, "inspection_started_at": nil, "boot_mode": nil, "secure_boot": nil,
	})
	return all
}

func mask(info any, secret func(key string) bool) {
	values, _ := info.(map[string]any)
	for key := range values {
		if secret(key) {
			values[key] = "******"
		}
	}
}

// showNode renders a node: the named fields, or all that the version knows.
func (c *call) showNode(n *node, names []string) (map[string]any, error) {
	all := n.fields()
	if n.ProvisionState == "available" && c.minor < 2 {
		all["provision_state"] = nil
	}
	shown := map[string]any{"links": c.links("nodes/" + n.UUID)}
	for _, name := range names {
		value, ok := all[name]
		switch {
		case name == "links":
			continue
		case !ok:
			return nil, refuse(http.StatusInternalServerError, "type object 'Node' has no attribute '%s'", name) // so does Ironic
		case !c.knows(name):
			return nil, refuse(http.StatusNotAcceptable, "Request not acceptable.")
		}
		shown[name] = value
	}
	if names != nil {
		return shown, nil
	}
	for name, value := range all {
		if c.knows(name) {
			shown[name] = value
		}
	}
	for name, minor := range map[string]int{"ports": 1, "states": 14, "portgroups": 24, "volume": 32} {
		if minor <= c.minor {
			shown[name] = c.links("nodes/" + n.UUID + "/" + name)
		}
	}
	return shown, nil
}

// is tells whether ident means the thing: what looks like a uuid is never taken
// for a name.
func is(ident, id string, name *string) bool {
	if uuid.Validate(ident) == nil {
		return id == ident
	}
	return name != nil && *name == ident
}

// find looks a node up by uuid or name.
func (s *Server) find(ident string) *node {
	for _, n := range s.state.Nodes {
		if is(ident, n.UUID, n.Name) {
			return n
		}
	}
	return nil
}

// named is the node that the path names; before 1.5 nodes have no names.
func (s *Server) named(c *call) (*node, error) {
	ident := c.PathValue("node")
	n := s.find(ident)
	if n == nil || c.minor < 5 && n.UUID != ident {
		return nil, refuse(http.StatusNotFound, "Node %s could not be found.", ident)
	}
	return n, nil
}

// unlocked refuses when a conductor holds the node.
func unlocked(n *node) error {
	if n.Reservation == nil {
		return nil
	}
	return refuse(http.StatusConflict, "Node %s is locked by host %s, please retry after the current operation is completed.", n.UUID, *n.Reservation)
}

var listArguments = []string{
	"associated", "maintenance", "retired", "provision_state", "resource_class", "driver", "fault", "owner", "lessee", "instance_uuid",
	"chassis_uuid", "conductor_group", "conductor", "shard", "sharded", "project", "description_contains",
	"limit", "marker", "sort_key", "sort_dir", "fields", "detail",
}

var shortFields = []string{"instance_uuid", "maintenance", "power_state", "provision_state", "uuid", "name"}

func (s *Server) listNodes(c *call) (any, error) {
	args, err := c.query(listArguments...)
	if err != nil {
		return nil, err
	}
	names := fieldList(args)
	detail, err := truth("detail", args)
	if err != nil {
		return nil, err
	}
	switch {
	case detail != nil && *detail && names != nil:
		return nil, refuse(http.StatusBadRequest, "Can not specify ?detail=True and fields in the same request.")
	case detail != nil && *detail:
	case names == nil:
		names = slices.DeleteFunc(slices.Clone(shortFields), func(field string) bool { return !c.knows(field) })
	}
	return s.nodeList(c, args, names)
}

func (s *Server) listNodesInDetail(c *call) (any, error) {
	args, err := c.query(listArguments...)
	if err != nil {
		return nil, err
	}
	return s.nodeList(c, args, nil)
}

func (s *Server) nodeList(c *call, args map[string]string, names []string) (any, error) {
	match, err := nodeFilter(args)
	if err != nil {
		return nil, err
	}
	var matching []*node
	for _, n := range s.state.Nodes {
		if match(n) {
			matching = append(matching, n)
		}
	}
	if err := sortNodes(args, matching); err != nil {
		return nil, err
	}
	part, more, err := page(s, args, matching, func(n *node) string { return n.UUID })
	if err != nil {
		return nil, err
	}
	shown := make([]map[string]any, 0, len(part))
	for _, n := range part {
		one, err := c.showNode(n, names)
		if err != nil {
			return nil, err
		}
		shown = append(shown, one)
	}
	if len(part) == 0 {
		// Ironic notices a wrong field even when there is nothing to show.
		if _, err := c.showNode(&node{}, names); err != nil {
			return nil, err
		}
	}
	answer := map[string]any{"nodes": shown}
	if more {
		answer["next"] = c.next("nodes", args, part[len(part)-1].UUID)
	}
	return answer, nil
}

func nodeFilter(args map[string]string) (func(*node) bool, error) {
	var tests []func(*node) bool
	for name, has := range map[string]func(*node) bool{
		"associated":  func(n *node) bool { return n.InstanceUUID != nil },
		"maintenance": func(n *node) bool { return n.Maintenance },
		"retired":     func(n *node) bool { return n.Retired },
	} {
		wanted, err := truth(name, args)
		if err != nil {
			return nil, err
		}
		if wanted != nil {
			tests = append(tests, func(n *node) bool { return has(n) == *wanted })
		}
	}
	for name, of := range map[string]func(*node) *string{
		"provision_state": func(n *node) *string { return &n.ProvisionState },
		"resource_class":  func(n *node) *string { return n.ResourceClass },
		"driver":          func(n *node) *string { return &n.Driver },
		"fault":           func(n *node) *string { return n.Fault },
		"owner":           func(n *node) *string { return n.Owner },
		"lessee":          func(n *node) *string { return n.Lessee },
		"instance_uuid":   func(n *node) *string { return n.InstanceUUID },
		"conductor_group": func(n *node) *string { return &n.ConductorGroup },
		"shard":           func(n *node) *string { return n.Shard },
	} {
		if wanted, ok := args[name]; ok {
			tests = append(tests, func(n *node) bool { v := of(n); return v != nil && *v == wanted })
		}
	}
	if state, ok := args["provision_state"]; ok {
		if _, known := targets[state]; !known {
			return nil, refuse(http.StatusBadRequest, "Provision state \"%s\" is not valid", state)
		}
	}
	if id, ok := args["instance_uuid"]; ok && uuid.Validate(id) != nil {
		return nil, refuse(http.StatusBadRequest, "Expected UUID for instance_uuid: %s", id)
	}
	return func(n *node) bool {
		for _, test := range tests {
			if !test(n) {
				return false
			}
		}
		return true
	}, nil
}

func sortNodes(args map[string]string, all []*node) error {
	if key := args["sort_key"]; key != "" && key != "id" {
		if _, ok := new(node).fields()[key]; !ok {
			return refuse(http.StatusBadRequest, "The sort_key value \"%s\" is an invalid field for sorting", key)
		}
		text := func(n *node) string { return fmt.Sprint(n.fields()[key]) }
		slices.SortStableFunc(all, func(a, b *node) int { return strings.Compare(text(a), text(b)) })
	}
	if args["sort_dir"] == "desc" {
		slices.Reverse(all)
	}
	return nil
}

func (s *Server) getNode(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	args, err := c.query("fields")
	if err != nil {
		return nil, err
	}
	return c.showNode(n, fieldList(args))
}

func (s *Server) showStates(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	shown, err := c.showNode(n, nil)
	if err != nil {
		return nil, err
	}
	states := map[string]any{}
	for _, name := range []string{
		"console_enabled", "last_error", "power_state", "provision_state", "target_power_state", "target_provision_state",
		"provision_updated_at", "raid_config", "target_raid_config", "boot_mode", "secure_boot",
	} {
		if value, ok := shown[name]; ok {
			states[name] = value
		}
	}
	return states, nil
}

var logicalName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,254}$`)

var reservedNames = []string{"maintenance", "management", "states", "vendor_passthru", "detail", "validate"}

func (s *Server) createNode(c *call) (any, error) {
	n := &node{UUID: uuid.NewString(), CreatedAt: s.now(), ProvisionState: "enroll"}
	known := slices.DeleteFunc(slices.Clone(settingNames), func(field string) bool { return !c.knows(field) })
	if err := c.resource("node", n, append(known, "uuid")...); err != nil {
		return nil, err
	}
	switch {
	case n.Driver == "":
		return nil, refuse(http.StatusBadRequest, "Schema error for node: 'driver' is a required property")
	case n.Driver != fakeDriver:
		return nil, refuse(http.StatusBadRequest, "No valid host was found. Reason: No conductor service registered which supports driver %s for conductor group \"%s\".", n.Driver, n.ConductorGroup)
	case uuid.Validate(n.UUID) != nil:
		return nil, refuse(http.StatusBadRequest, "Expected UUID for uuid: %s", n.UUID)
	case s.find(n.UUID) != nil:
		return nil, refuse(http.StatusConflict, "A node with UUID %s already exists.", n.UUID)
	}
	if n.Name != nil {
		if err := checkNodeName("Cannot create node with invalid name '%s'", *n.Name); err != nil {
			return nil, err
		}
		if s.find(*n.Name) != nil {
			return nil, refuse(http.StatusConflict, "A node with name %s already exists.", *n.Name)
		}
	}
	if c.minor < 11 {
		n.ProvisionState = "available" // older clients know no "enroll"
	}
	n.complete()
	s.state.Nodes = append(s.state.Nodes, n)
	c.location = "/nodes/" + n.UUID
	return c.showNode(n, nil)
}

func checkNodeName(format, name string) error {
	if slices.Contains(reservedNames, name) {
		return refuse(http.StatusBadRequest, "The word \"%s\" is reserved and can not be used as a node name. Reserved words are: %s.", name, strings.Join(reservedNames, ", "))
	}
	if !logicalName.MatchString(name) || uuid.Validate(name) == nil {
		return refuse(http.StatusBadRequest, format, name)
	}
	return nil
}

// complete fills in what fake-hardware defaults to.
func (n *node) complete() {
	for _, setting := range []*string{
		&n.BIOSInterface, &n.BootInterface, &n.ConsoleInterface, &n.DeployInterface, &n.InspectInterface, &n.ManagementInterface,
		&n.PowerInterface, &n.RAIDInterface, &n.RescueInterface, &n.VendorInterface,
	} {
		*setting = cmp.Or(*setting, "fake")
	}
	n.NetworkInterface, n.StorageInterface = cmp.Or(n.NetworkInterface, "noop"), cmp.Or(n.StorageInterface, "noop")
	n.Extra, n.Properties, n.DriverInfo = orEmptyMap(n.Extra), orEmptyMap(n.Properties), orEmptyMap(n.DriverInfo)
	n.InstanceInfo, n.NetworkData = orEmptyMap(n.InstanceInfo), orEmptyMap(n.NetworkData)
}

func (s *Server) patchNode(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	if n.TargetProvisionState != nil && !updateAllowed[n.ProvisionState] {
		return nil, refuse(http.StatusConflict, "Node %s can not be updated while a state transition is in progress.", c.PathValue("node"))
	}
	if err := unlocked(n); err != nil {
		return nil, err
	}
	var changed settings
	if err := c.patch(settingNames, n.settings, &changed); err != nil {
		return nil, err
	}
	if changed.Name != nil && (n.Name == nil || *n.Name != *changed.Name) {
		if err := checkNodeName("Node "+c.PathValue("node")+": Cannot change name to invalid name '%s'", *changed.Name); err != nil {
			return nil, err
		}
		if other := s.find(*changed.Name); other != nil && other != n {
			return nil, refuse(http.StatusConflict, "A node with name %s already exists.", *changed.Name)
		}
	}
	n.settings = changed
	n.complete()
	s.touch(n)
	return c.showNode(n, nil)
}

func (s *Server) deleteNode(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	if err := unlocked(n); err != nil {
		return nil, err
	}
	switch {
	case n.InstanceUUID != nil && !n.Maintenance:
		return nil, refuse(http.StatusConflict, "Node %s is associated with instance %s.", n.UUID, *n.InstanceUUID)
	case n.Protected:
		return nil, refuse(http.StatusForbidden, "Node %s is protected and cannot be undeployed, rebuilt or deleted.", n.UUID)
	case !n.Maintenance && !slices.Contains([]string{"manageable", "enroll", "adopt failed", "available"}, n.ProvisionState):
		return nil, refuse(http.StatusConflict, "Can not delete node \"%s\" while it is in provision state \"%s\". Valid provision states to perform deletion are: \"('manageable', 'enroll', 'adopt failed', 'available')\", or set the node into maintenance mode", n.UUID, n.ProvisionState)
	}
	s.freeNode(n)
	s.state.Nodes = slices.DeleteFunc(s.state.Nodes, func(other *node) bool { return other == n })
	s.state.Ports = slices.DeleteFunc(s.state.Ports, func(p *port) bool { return p.NodeUUID == n.UUID })
	delete(s.drives, n.UUID)
	return nil, nil
}

func (s *Server) setMaintenance(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	args, err := c.arguments("reason")
	if err != nil {
		return nil, err
	}
	n.Maintenance, n.MaintenanceReason = true, text(args["reason"])
	s.touch(n)
	return nil, nil
}

func (s *Server) unsetMaintenance(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	n.Maintenance, n.MaintenanceReason, n.Fault = false, nil, nil
	s.touch(n)
	return nil, nil
}

// traitName is narrower than a look into os-traits and wider than its list.
var traitName = regexp.MustCompile(`^(CUSTOM|COMPUTE|HW|MISC|STORAGE|OWNER)_[A-Z0-9_]+$`)

func checkTraits(of string, traits []string) error {
	for _, t := range traits {
		if !traitName.MatchString(t) || len(t) > 255 {
			return refuse(http.StatusBadRequest, "Schema error for %s: '%s' is not valid under any of the given schemas. Possible root cause: '%s' does not match '^CUSTOM_[A-Z0-9_]+$'", of, t, t)
		}
	}
	return nil
}

func (s *Server) listTraits(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	return map[string]any{"traits": orEmpty(n.Traits)}, nil
}

func (s *Server) setTraits(c *call) (any, error) {
	args, err := c.arguments("traits")
	if err != nil {
		return nil, err
	}
	var traits []string
	if err := json.Unmarshal(args["traits"], &traits); err != nil {
		return nil, refuse(http.StatusBadRequest, "Schema error for body: %v", err)
	}
	if err := checkTraits("body", traits); err != nil {
		return nil, err
	}
	return s.changeTraits(c, func([]string) []string { return traits })
}

func (s *Server) deleteTraits(c *call) (any, error) {
	return s.changeTraits(c, func([]string) []string { return nil })
}

func (s *Server) addTrait(c *call) (any, error) {
	trait := c.PathValue("trait")
	if err := checkTraits("trait", []string{trait}); err != nil {
		return nil, err
	}
	c.location = "/nodes/" + c.PathValue("node") + "/traits/" + trait
	return s.changeTraits(c, func(all []string) []string { return append(slices.Clone(all), trait) })
}

func (s *Server) deleteTrait(c *call) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	trait := c.PathValue("trait")
	if !slices.Contains(n.Traits, trait) {
		return nil, refuse(http.StatusNotFound, "Node %s doesn't have a trait '%s'", n.UUID, trait)
	}
	return s.changeTraits(c, func(all []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(t string) bool { return t == trait })
	})
}

func (s *Server) changeTraits(c *call, change func([]string) []string) (any, error) {
	n, err := s.named(c)
	if err != nil {
		return nil, err
	}
	if err := unlocked(n); err != nil {
		return nil, err
	}
	traits := slices.Clone(change(n.Traits))
	slices.Sort(traits)
	n.Traits = slices.Compact(traits)
	return nil, nil
}

func (s *Server) listDrivers(c *call) (any, error) {
	if _, err := c.query("type", "detail", "fields"); err != nil {
		return nil, err
	}
	return map[string]any{"drivers": []any{c.driver()}}, nil
}

func (s *Server) showDriver(c *call) (any, error) {
	if name := c.PathValue("driver"); name != fakeDriver {
		return nil, refuse(http.StatusNotFound, "Could not find the following driver(s) or hardware type(s): %s.", name)
	}
	return c.driver(), nil
}

func (c *call) driver() map[string]any {
	return map[string]any{
		"name": fakeDriver, "hosts": []string{conductor}, "type": "dynamic",
		"links": c.links("drivers/" + fakeDriver), "properties": c.links("drivers/" + fakeDriver + "/properties"),
	}
}

func (s *Server) listConductors(c *call) (any, error) {
	return map[string]any{"conductors": []any{map[string]any{
		"hostname": conductor, "conductor_group": "", "alive": true, "links": c.links("conductors/" + conductor),
	}}}, nil
}

const (
	fakeDriver = "fake-hardware"
	conductor  = "127.0.0.1"
)

// Node adds a machine, or replaces the one of that uuid or name, and returns
// the server. Its uuid is made up when empty, its state is "available" when
// empty; an empty power state is null, and such a node is never allocated.
func (s *Server) Node(seed nodes.Node) *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &node{UUID: seed.UUID, CreatedAt: s.now()}
	if n.UUID == "" {
		n.UUID = uuid.NewString()
	}
	seed.ProvisionState = cmp.Or(seed.ProvisionState, "available")
	n.assign(seed)
	if seed.ProvisionUpdatedAt.IsZero() {
		n.ProvisionUpdatedAt = ptr(s.now())
	}
	for _, ident := range []string{n.UUID, seed.Name} {
		if old := s.find(ident); old != nil && ident != "" {
			s.state.Nodes = slices.DeleteFunc(s.state.Nodes, func(other *node) bool { return other == old })
		}
	}
	s.state.Nodes = append(s.state.Nodes, n)
	s.saved("seed a node")
	return s
}

// Change edits a machine behind the API's back: state, power, fault,
// maintenance, reservation (a lock), last error, … What was due for it is
// dropped. It panics when there is no such machine.
func (s *Server) Change(ident string, edit func(*nodes.Node)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	n := s.mustFind(ident)
	shown := n.export()
	edit(&shown)
	n.assign(shown)
	n.Due = nil
	s.saved("change a node")
}

// Get returns a machine as it is now, and whether there is one.
func (s *Server) Get(ident string) (nodes.Node, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	n := s.find(ident)
	if n == nil {
		return nodes.Node{}, false
	}
	return n.export(), true
}

// ConfigDrive returns what the last deploy of a machine was given, as JSON; nil
// when there was none, or before the last restart.
func (s *Server) ConfigDrive(ident string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.drives[s.mustFind(ident).UUID])
}

func (s *Server) mustFind(ident string) *node {
	n := s.find(ident)
	if n == nil {
		panic(fmt.Sprintf("ironictest: there is no node %s", ident))
	}
	return n
}

// export is the node as clients of gophercloud see it.
func (n *node) export() nodes.Node {
	var out nodes.Node
	shown, err := (&call{minor: maxMinor}).showNode(n, nil)
	if err != nil {
		panic(err)
	}
	raw, err := json.Marshal(shown)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		panic(err)
	}
	out.InstanceInfo, out.DriverInfo = maps.Clone(n.InstanceInfo), maps.Clone(n.DriverInfo) // unmasked
	return out
}

// assign takes over what a test may set.
func (n *node) assign(from nodes.Node) {
	n.Name, n.ResourceClass, n.Traits = optional(from.Name), optional(from.ResourceClass), slices.Clone(from.Traits)
	n.Driver = cmp.Or(from.Driver, fakeDriver)
	n.DriverInfo, n.InstanceInfo, n.Properties = from.DriverInfo, from.InstanceInfo, from.Properties
	n.Extra, n.NetworkData, n.AutomatedClean = from.Extra, from.NetworkData, from.AutomatedClean
	n.ProvisionState, n.TargetProvisionState = from.ProvisionState, optional(targets[from.ProvisionState])
	if from.TargetProvisionState != "" {
		n.TargetProvisionState = &from.TargetProvisionState
	}
	if !from.ProvisionUpdatedAt.IsZero() {
		n.ProvisionUpdatedAt = &from.ProvisionUpdatedAt
	}
	n.PowerState, n.TargetPowerState = optional(from.PowerState), optional(from.TargetPowerState)
	n.Maintenance, n.MaintenanceReason = from.Maintenance, optional(from.MaintenanceReason)
	n.Fault, n.LastError, n.Reservation = optional(from.Fault), optional(from.LastError), optional(from.Reservation)
	n.InstanceUUID, n.AllocationUUID = optional(from.InstanceUUID), optional(from.AllocationUUID)
	n.Protected, n.ProtectedReason = from.Protected, optional(from.ProtectedReason)
	n.Retired, n.RetiredReason = from.Retired, optional(from.RetiredReason)
	n.complete()
}

func truth(name string, args map[string]string) (*bool, error) {
	given, ok := args[name]
	if !ok {
		return nil, nil
	}
	switch strings.ToLower(given) {
	case "1", "t", "true", "on", "y", "yes":
		return ptr(true), nil
	case "0", "f", "false", "off", "n", "no":
		return ptr(false), nil
	}
	return nil, refuse(http.StatusBadRequest, "Invalid %s: Unrecognized value '%s', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'", name, given)
}

// text reads an optional string argument.
func text(raw json.RawMessage) *string {
	var s *string
	if len(raw) > 0 && json.Unmarshal(raw, &s) != nil {
		return ptr(string(raw)) // not a string: shown as it came
	}
	return s
}

func (s *Server) now() time.Time { return s.opt.Now().UTC().Truncate(time.Microsecond) }

func (s *Server) touch(n *node) { n.UpdatedAt = ptr(s.now()) }

// stamp renders a time as Ironic does.
func stamp(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.Format("2006-01-02T15:04:05.999999+00:00")
}

func ptr[T any](v T) *T { return &v }

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func orEmptyMap(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

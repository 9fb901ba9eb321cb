// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/fault"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// serverTypes are the kinds of machine that the API has words for.
var serverTypes = []string{"vm", "bm"}

var templatePatchRules = patchRules{
	mandatory: []string{
		"coe", "image_id", "network_driver", "external_network_id", "tls_disabled", "public",
		"server_type", "registry_enabled", "cluster_distro", "hidden",
	},
}

// templateName is what a template is called: Magnum has two names for it.
type templateName struct {
	generated  string                                // last word of names that are made up
	collection string                                // of the path
	publish    string                                // policy rule
	read       func(*object, *model.ClusterTemplate) // what users may set
	render     func(*call, *model.ClusterTemplate) any
	renderPage func(c *call, ts []model.ClusterTemplate, next string) any
}

var clusterTemplate = templateName{
	generated:  "template",
	collection: "clustertemplates",
	publish:    "clustertemplate:publish",
	read:       readTemplate,
	render:     func(c *call, t *model.ClusterTemplate) any { return c.renderTemplate(t) },
	renderPage: func(c *call, ts []model.ClusterTemplate, next string) any {
		return v1.ClusterTemplates{ClusterTemplates: each(ts, c.renderTemplate), Next: next}
	},
}

func (a *API) listTemplates(as templateName) handler {
	return func(c *call) (response, error) {
		page, err := a.page(c)
		if err != nil {
			return response{}, err
		}
		if err := c.authorize(c.self()); err != nil {
			return response{}, err
		}
		templates, err := a.Store.ListTemplates(c.Context(), c.scope(), page)
		if err != nil {
			return response{}, err
		}
		next := ""
		if n := len(templates); n > 0 {
			next = c.next(c.route.path, page, n, templates[n-1].UUID)
		}
		return ok(as.renderPage(c, templates, next)), nil
	}
}

// showTemplate shows public templates to everybody who knows their name.
func (a *API) showTemplate(as templateName) handler {
	return func(c *call) (response, error) {
		t, err := a.template(c, c.PathValue("ident"))
		if err != nil {
			return response{}, err
		}
		if !t.Public {
			if err := c.authorize(targetTemplate(t)); err != nil {
				return response{}, err
			}
		}
		return ok(as.render(c, t)), nil
	}
}

func (a *API) createTemplate(as templateName) handler {
	return func(c *call) (response, error) {
		o, err := c.readObject()
		if err != nil {
			return response{}, err
		}
		o.readOnly("project_id", "user_id", "links", "created_at", "updated_at")
		t := &model.ClusterTemplate{ProjectID: c.caller.projectID, UserID: c.caller.userID}
		as.read(o, t)
		if id := o.uuid("uuid"); id != nil {
			t.UUID = *id
		}
		if err := o.done(); err != nil {
			return response{}, err
		}
		if t.Name == nil {
			t.Name = new(generatedName(as.generated))
		}
		if err := a.checkDrivers(t); err != nil {
			return response{}, err
		}
		if err := a.checkKind(c, t); err != nil {
			return response{}, err
		}
		if err := c.authorizeCreate(); err != nil {
			return response{}, err
		}
		image, err := a.checkResources(c, t)
		if err != nil {
			return response{}, err
		}
		t.ClusterDistro = &image.Distro
		if t.Public || t.Hidden {
			if err := c.demand(as.publish, c.self()); err != nil {
				return response{}, err
			}
		}
		if t.UUID == "" {
			t.UUID = uuid.NewString()
		}
		if err := a.Store.CreateTemplate(c.Context(), t); err != nil {
			if errors.Is(err, store.ErrExists) {
				return response{}, conflict("A ClusterTemplate with UUID %s already exists.", t.UUID)
			}
			return response{}, err
		}
		return response{status: http.StatusCreated, body: as.render(c, t), location: c.base + "/v1/" + as.collection + "/" + t.UUID}, nil
	}
}

func (a *API) updateTemplate(as templateName) handler {
	return func(c *call) (response, error) {
		patch, err := c.readPatch(templatePatchRules)
		if err != nil {
			return response{}, err
		}
		before, err := a.template(c, c.PathValue("ident"))
		if err != nil {
			return response{}, err
		}
		if err := c.authorize(targetTemplate(before)); err != nil {
			return response{}, err
		}
		after, changed, err := as.patch(c, before, patch)
		if err != nil {
			return response{}, err
		}
		if err := a.checkDrivers(after); err != nil {
			return response{}, err
		}
		image, err := a.checkResources(c, after)
		if err != nil {
			return response{}, err
		}
		if slices.Contains(changed, "image_id") {
			after.ClusterDistro = &image.Distro
		}
		if slices.Contains(changed, "public") || slices.Contains(changed, "hidden") {
			if err := c.demand(as.publish, c.self()); err != nil {
				return response{}, err
			}
		}
		// The answer shows updated_at as it was before.
		body := as.render(c, after)
		if len(changed) == 0 {
			users, err := a.Store.TemplateUsers(c.Context(), after.UUID)
			if err == nil && users > 0 {
				err = store.ErrInUse
			}
			return ok(body), err
		}
		if err := a.Store.UpdateTemplate(c.Context(), after, !harmless(changed, after)); err != nil {
			return response{}, err
		}
		return ok(body), nil
	}
}

// patch returns the template after the patch, and the names of what differs.
func (as templateName) patch(c *call, before *model.ClusterTemplate, patch []patchOperation) (*model.ClusterTemplate, []string, error) {
	doc, err := newDocument(as.render(c, before))
	if err != nil {
		return nil, nil, err
	}
	patched, err := doc.apply(patch)
	if err != nil {
		return nil, nil, err
	}
	o := newObject(patched)
	o.patched = true
	after := *before
	as.read(o, &after)
	o.ignored(internalAttributes...)
	if err := o.done(); err != nil {
		return nil, nil, err
	}
	final, err := newDocument(as.render(c, &after))
	if err != nil {
		return nil, nil, err
	}
	return &after, doc.changed(final), nil
}

// harmless tells whether a template that clusters use may be changed in this
// way: one of name, hidden, public (to true) or tags (to a value).
func harmless(changed []string, after *model.ClusterTemplate) bool {
	if len(changed) != 1 {
		return false
	}
	switch changed[0] {
	case "name", "hidden":
		return true
	case "public":
		return after.Public
	case "tags":
		return after.Tags != nil
	}
	return false
}

func (a *API) deleteTemplate(c *call) (response, error) {
	t, err := a.template(c, c.PathValue("ident"))
	if err != nil {
		return response{}, err
	}
	if err := c.authorize(targetTemplate(t)); err != nil {
		return response{}, err
	}
	if err := a.Store.DeleteTemplate(c.Context(), t.UUID); err != nil {
		return response{}, foundAs("ClusterTemplate", c.PathValue("ident"), err)
	}
	return noContent(), nil
}

// readTemplate reads what users may set, with defaults for what is not given.
func readTemplate(o *object, t *model.ClusterTemplate) {
	t.Name = o.text("name", 1, maxText)
	t.COE = o.required("coe", 1, 32)
	t.ImageID = o.required("image_id", 1, maxText)
	t.FlavorID = o.text("flavor_id", 1, maxText)
	t.MasterFlavorID = o.text("master_flavor_id", 1, maxText)
	t.KeypairID = o.text("keypair_id", 1, maxText)
	t.ExternalNetworkID = o.text("external_network_id", 1, maxText)
	t.FixedNetwork = o.text("fixed_network", 1, maxText)
	t.FixedSubnet = o.text("fixed_subnet", 1, maxText)
	t.DNSNameserver = o.nameservers("dns_nameserver")
	t.NetworkDriver = o.text("network_driver", 1, maxText)
	t.VolumeDriver = o.text("volume_driver", 1, maxText)
	t.DockerVolumeSize = o.integer("docker_volume_size", 1)
	t.DockerStorageDriver = o.text("docker_storage_driver", 1, maxText)
	t.APIServerPort = o.port("apiserver_port")
	t.HTTPProxy = o.text("http_proxy", 1, maxText)
	t.HTTPSProxy = o.text("https_proxy", 1, maxText)
	t.NoProxy = o.text("no_proxy", 1, maxText)
	t.Labels = copyLabels(o.labels("labels"))
	t.RegistryEnabled = or(o.boolean("registry_enabled"), false)
	t.InsecureRegistry = o.text("insecure_registry", 1, maxText)
	t.TLSDisabled = or(o.boolean("tls_disabled"), false)
	t.Public = or(o.boolean("public"), false)
	t.Hidden = or(o.boolean("hidden"), false)
	t.ServerType = or(o.enum("server_type", serverTypes...), serverTypes[0])
	t.MasterLBEnabled = or(o.boolean("master_lb_enabled"), false)
	t.FloatingIPEnabled = or(o.boolean("floating_ip_enabled"), true)
	t.Tags = o.text("tags", 0, maxText)
	t.Driver = o.text("driver", 1, maxText)
	t.ClusterDistro = o.text("cluster_distro", 1, maxText)
}

// nameservers reads one or more IPv4 addresses, with commas between them.
func (o *object) nameservers(name string) *string {
	s := o.text(name, 1, maxText)
	if s == nil {
		return nil
	}
	for part := range strings.SplitSeq(*s, ",") {
		address, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || !address.Is4() {
			o.refuse(name, "%q is not an IPv4 address", strings.TrimSpace(part))
			return nil
		}
	}
	return s
}

// port reads a port number that a service without privileges may use.
func (o *object) port(name string) *int {
	n := o.integer(name, 1024)
	if n != nil && *n > 65535 {
		o.refuse(name, "it must be 65535 or less, not %d", *n)
		return nil
	}
	return n
}

// checkDrivers fills in the default network driver and holds network, volume
// and storage driver against what the COE knows.
func (a *API) checkDrivers(t *model.ClusterTemplate) error {
	networkDrivers, known := a.COEs.NetworkDrivers(t.COE)
	if !known {
		return badRequest("Requested COE type %s (coe) is not supported.", t.COE)
	}
	if t.NetworkDriver == nil && len(networkDrivers) > 0 {
		t.NetworkDriver = &networkDrivers[0]
	}
	if t.NetworkDriver != nil && !slices.Contains(networkDrivers, *t.NetworkDriver) {
		return badRequest("Network driver type %s (network_driver) is not supported, expecting one of: %s.", *t.NetworkDriver, cmp.Or(strings.Join(networkDrivers, ", "), "none"))
	}
	if drivers := a.COEs.VolumeDrivers(t.COE); t.VolumeDriver != nil && !slices.Contains(drivers, *t.VolumeDriver) {
		return badRequest("Volume driver type %s (volume_driver) is not supported, expecting one of: %s.", *t.VolumeDriver, strings.Join(append(drivers, "none"), ", "))
	}
	return checkStorage(t.DockerStorageDriver, t.DockerVolumeSize)
}

// checkStorage refuses devicemapper without room for its pools.
func checkStorage(driver *string, sizeGiB *int) error {
	if driver != nil && *driver == "devicemapper" && or(sizeGiB, 0) < 3 {
		return badRequest("The docker_volume_size must be 3 GiB or more with the docker_storage_driver devicemapper.")
	}
	return nil
}

// checkKind demands a driver for the template's kind. An image that is not
// there, or has no distro, makes it a kind without one.
func (a *API) checkKind(c *call, t *model.ClusterTemplate) error {
	kind := *t
	if kind.ClusterDistro == nil {
		image, err := a.Images.Image(c.Context(), t.ImageID)
		switch {
		case err == nil && image.Distro != "":
			kind.ClusterDistro = &image.Distro
		case err != nil && !isCatalogAnswer(err):
			return err
		}
	}
	return refusal(a.COEs.ValidateTemplate(&kind))
}

// checkResources looks up what the template names elsewhere, in Magnum's order.
func (a *API) checkResources(c *call, t *model.ClusterTemplate) (catalog.Image, error) {
	ctx := c.Context()
	image, err := a.Images.Image(ctx, t.ImageID)
	if err != nil {
		return image, lookedUp("image_id", "Image", t.ImageID, err)
	}
	if image.Distro == "" {
		return image, badRequest("The image %s (image_id) does not have the property os_distro.", t.ImageID)
	}
	for _, flavor := range []struct {
		field string
		ident *string
	}{{"flavor_id", t.FlavorID}, {"master_flavor_id", t.MasterFlavorID}} {
		if flavor.ident == nil {
			continue
		}
		if _, err := a.Flavors.Flavor(ctx, *flavor.ident); err != nil {
			return image, lookedUp(flavor.field, "Flavor", *flavor.ident, err)
		}
	}
	for _, named := range []struct {
		field, kind string
		ident       *string
		lookUp      func(context.Context, string) error
	}{
		{"external_network_id", "External network", t.ExternalNetworkID, a.Networks.ExternalNetwork},
		{"fixed_network", "Fixed network", t.FixedNetwork, a.Networks.FixedNetwork},
		{"fixed_subnet", "Fixed subnet", t.FixedSubnet, a.Networks.FixedSubnet},
	} {
		if named.ident == nil {
			continue
		}
		if err := named.lookUp(ctx, *named.ident); err != nil {
			return image, lookedUp(named.field, named.kind, *named.ident, err)
		}
	}
	return image, checkLabels(t.Labels)
}

// isCatalogAnswer tells an answer of a catalogue from its silence.
func isCatalogAnswer(err error) bool {
	return errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrForbidden) || errors.Is(err, catalog.ErrAmbiguous)
}

// lookedUp names the field and what it names, which could not be found
// elsewhere.
func lookedUp(field, kind, ident string, err error) error {
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return badRequest("%s %s (%s) could not be found.", kind, ident, field)
	case errors.Is(err, catalog.ErrForbidden):
		return forbidden("%s %s (%s) is not permitted.", kind, ident, field)
	case errors.Is(err, catalog.ErrAmbiguous):
		return conflict("Multiple resources match %s (%s): please use the id of the %s.", ident, field, strings.ToLower(kind))
	}
	return err
}

// refusal makes what a driver says about a specification a 400. When there is no
// answer for now, as of a driver whose process is away, it is a 503.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if away, ok := errors.AsType[*fault.Error](err); ok && !away.Permanent {
		return &Error{Status: http.StatusServiceUnavailable, Detail: sentence(away.Reason)}
	}
	return badRequest("%s", sentence(err.Error()))
}

func (c *call) renderTemplate(t *model.ClusterTemplate) v1.ClusterTemplate {
	fields := renderTemplateFields(t)
	fields.Links = c.links("/clustertemplates/" + t.UUID)
	return v1.ClusterTemplate{TemplateFields: fields, ProjectID: t.ProjectID, UserID: t.UserID}
}

// renderTemplateFields renders all but the links.
func renderTemplateFields(t *model.ClusterTemplate) v1.TemplateFields {
	return v1.TemplateFields{
		UUID:                t.UUID,
		Name:                t.Name,
		COE:                 t.COE,
		ImageID:             t.ImageID,
		FlavorID:            t.FlavorID,
		MasterFlavorID:      t.MasterFlavorID,
		KeypairID:           t.KeypairID,
		ExternalNetworkID:   t.ExternalNetworkID,
		FixedNetwork:        t.FixedNetwork,
		FixedSubnet:         t.FixedSubnet,
		DNSNameserver:       t.DNSNameserver,
		NetworkDriver:       t.NetworkDriver,
		VolumeDriver:        t.VolumeDriver,
		DockerVolumeSize:    t.DockerVolumeSize,
		DockerStorageDriver: t.DockerStorageDriver,
		ClusterDistro:       t.ClusterDistro,
		APIServerPort:       t.APIServerPort,
		HTTPProxy:           t.HTTPProxy,
		HTTPSProxy:          t.HTTPSProxy,
		NoProxy:             t.NoProxy,
		Labels:              present(t.Labels),
		RegistryEnabled:     t.RegistryEnabled,
		InsecureRegistry:    t.InsecureRegistry,
		TLSDisabled:         t.TLSDisabled,
		Public:              t.Public,
		Hidden:              t.Hidden,
		ServerType:          t.ServerType,
		MasterLBEnabled:     t.MasterLBEnabled,
		FloatingIPEnabled:   t.FloatingIPEnabled,
		Tags:                t.Tags,
		Driver:              t.Driver,
		CreatedAt:           v1.Time(t.CreatedAt),
		UpdatedAt:           wireTime(t.UpdatedAt),
	}
}

func wireTime(t *time.Time) *v1.Time {
	if t == nil {
		return nil
	}
	return new(v1.Time(*t))
}

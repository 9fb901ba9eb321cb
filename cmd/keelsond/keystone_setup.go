// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	keystoneroles "github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/spf13/cobra"

	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/keystone"
)

// keystoneSetup makes what Keystone has to know of Keelson. It looks first:
// what is there stays as it is.
type keystoneSetup struct {
	cfg   *config.Config
	admin *keystone.Client

	region           string
	urls             map[gophercloud.Availability]string
	dryRun           bool
	resetPassword    bool
	replaceEndpoints bool

	done []setupAction
}

// setupAction is a thing in Keystone and what became of it.
type setupAction struct {
	What   string `json:"what"`
	Name   string `json:"name"`
	Action string `json:"action"`
}

func keystoneSetupCommand(load loader) *cobra.Command {
	var format, public, internal, admin string
	k := &keystoneSetup{}
	cmd := &cobra.Command{
		Use:   "keystone-setup",
		Short: "Make Keelson's user, service and endpoints in Keystone",
		Long: "Make in Keystone what Keelson needs: the user and the project of [keystone_authtoken], the role \"service\" for that user, a service of type\n" +
			"container-infra, and its endpoints. What is there already stays as it is, so it may be run again.\n\n" +
			"An administrator's login is taken from the environment, as by the openstack command: OS_AUTH_URL, OS_USERNAME, OS_PASSWORD,\n" +
			"OS_PROJECT_NAME, OS_USER_DOMAIN_NAME, OS_PROJECT_DOMAIN_NAME, OS_CACERT, OS_REGION_NAME.\n\n" +
			"An endpoint that leads elsewhere, to Magnum say, is changed only with --replace-endpoints.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			k.cfg = cfg
			if public == "" && cfg.API.PublicEndpoint != "" {
				public = cfg.API.PublicEndpoint + "/v1"
			}
			k.urls = map[gophercloud.Availability]string{
				gophercloud.AvailabilityPublic: public, gophercloud.AvailabilityInternal: cmp.Or(internal, public), gophercloud.AvailabilityAdmin: cmp.Or(admin, internal, public),
			}
			for _, interf := range setupInterfaces {
				if u, err := url.Parse(k.urls[interf]); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
					return fmt.Errorf("--%s-url %q must be an address like https://cloud.example.org:9511/v1", interf, k.urls[interf])
				}
			}
			if cfg.KeystoneAuthToken.Password == "" {
				return errors.New("[keystone_authtoken] password must be set: the user gets it")
			}
			k.region = cmp.Or(k.region, os.Getenv("OS_REGION_NAME"), cfg.KeystoneAuthToken.RegionName, "RegionOne")
			if k.admin, err = adminFromEnvironment(cfg); err != nil {
				return err
			}
			defer k.admin.Close()
			err = k.run(cmd.Context())
			return errors.Join(writeSetup(cmd.OutOrStdout(), format, k.done), err)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "table", `"table" or "json"`)
	flags.StringVar(&public, "public-url", "", "where users reach the API, with /v1 (default: [api] public_endpoint)")
	flags.StringVar(&internal, "internal-url", "", "where other services reach it (default: as users do)")
	flags.StringVar(&admin, "admin-url", "", "where administrators reach it (default: as other services do)")
	flags.StringVar(&k.region, "region", "", "region of the endpoints (default: OS_REGION_NAME, [keystone_authtoken] region_name, RegionOne)")
	flags.BoolVar(&k.dryRun, "dry-run", false, "tell what would be done, and do nothing")
	flags.BoolVar(&k.resetPassword, "reset-password", false, "give the user the configured password if it has another one")
	flags.BoolVar(&k.replaceEndpoints, "replace-endpoints", false, "change endpoints that lead elsewhere")
	return cmd
}

var setupInterfaces = []gophercloud.Availability{gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin}

// adminFromEnvironment is the login that the openstack command would use.
func adminFromEnvironment(cfg *config.Config) (*keystone.Client, error) {
	client, err := keystone.NewClient(keystone.Options{
		AuthURL:  cmp.Or(os.Getenv("OS_AUTH_URL"), cfg.KeystoneAuthToken.AuthURL),
		Username: os.Getenv("OS_USERNAME"), Password: os.Getenv("OS_PASSWORD"), ProjectName: os.Getenv("OS_PROJECT_NAME"),
		UserDomainName: os.Getenv("OS_USER_DOMAIN_NAME"), ProjectDomainName: os.Getenv("OS_PROJECT_DOMAIN_NAME"),
		CAFile: cmp.Or(os.Getenv("OS_CACERT"), cfg.KeystoneAuthToken.CAFile), Insecure: cfg.KeystoneAuthToken.Insecure, Timeout: 30 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("the administrator's login (OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME, …): %w", err)
	}
	return client, nil
}

func writeSetup(to io.Writer, format string, done []setupAction) error {
	if format == "json" {
		return writeJSON(to, done)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "WHAT\tNAME\tACTION")
	for _, a := range done {
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\n", a.What, a.Name, a.Action)
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// note keeps what became of a thing; in a dry run, what would have.
func (k *keystoneSetup) note(what, name, action string) {
	if k.dryRun && action != actionThere {
		action = "would be " + action
	}
	k.done = append(k.done, setupAction{what, name, action})
}

const (
	actionThere   = "is there"
	actionCreated = "created"
	actionChanged = "changed"
)

func (k *keystoneSetup) run(ctx context.Context) error {
	c := &k.cfg.KeystoneAuthToken
	projectDomain, err := k.domain(ctx, c.ProjectDomainName)
	if err != nil {
		return err
	}
	userDomain, err := k.domain(ctx, c.UserDomainName)
	if err != nil {
		return err
	}
	project, err := k.project(ctx, projectDomain)
	if err != nil {
		return err
	}
	user, err := k.user(ctx, userDomain, project)
	if err != nil {
		return err
	}
	if err := k.role(ctx, user, project); err != nil {
		return err
	}
	service, err := k.service(ctx)
	if err != nil {
		return err
	}
	return k.endpoints(ctx, service)
}

// call asks Keystone as the administrator.
func (k *keystoneSetup) call(ctx context.Context, doing string, ask func(context.Context, *gophercloud.ServiceClient) error) error {
	err := k.admin.Call(ctx, k.admin.Endpoint(), ask)
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		// The answer's body, which gophercloud repeats, may repeat what was sent.
		err = fmt.Errorf("the answer was %d %s", answer.Actual, http.StatusText(answer.Actual))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

func (k *keystoneSetup) domain(ctx context.Context, name string) (id string, err error) {
	err = k.call(ctx, "look for domain "+name, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		pages, err := domains.List(sc, domains.ListOpts{Name: name}).AllPages(ctx)
		if err != nil {
			return err
		}
		found, err := domains.ExtractDomains(pages)
		if err == nil && len(found) == 0 {
			err = errors.New("there is none")
		}
		if err == nil {
			id = found[0].ID
		}
		return err
	})
	return id, err
}

func (k *keystoneSetup) project(ctx context.Context, domain string) (id string, err error) {
	name := k.cfg.KeystoneAuthToken.ProjectName
	err = k.call(ctx, "project "+name, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		pages, err := projects.List(sc, projects.ListOpts{Name: name, DomainID: domain}).AllPages(ctx)
		if err != nil {
			return err
		}
		found, err := projects.ExtractProjects(pages)
		switch {
		case err != nil:
			return err
		case len(found) > 0:
			id = found[0].ID
			k.note("project", name, actionThere)
			return nil
		case !k.dryRun:
			made, err := projects.Create(ctx, sc, projects.CreateOpts{Name: name, DomainID: domain, Description: "Services of the cloud"}).Extract()
			if err != nil {
				return err
			}
			id = made.ID
		}
		k.note("project", name, actionCreated)
		return nil
	})
	return id, err
}

func (k *keystoneSetup) user(ctx context.Context, domain, project string) (id string, err error) {
	c := &k.cfg.KeystoneAuthToken
	there := false
	err = k.call(ctx, "user "+c.Username, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		pages, err := users.List(sc, users.ListOpts{Name: c.Username, DomainID: domain}).AllPages(ctx)
		if err != nil {
			return err
		}
		found, err := users.ExtractUsers(pages)
		switch {
		case err != nil:
			return err
		case len(found) > 0:
			id, there = found[0].ID, true
			return nil
		case !k.dryRun:
			made, err := users.Create(ctx, sc, users.CreateOpts{
				Name: c.Username, DomainID: domain, DefaultProjectID: project, Password: c.Password.Reveal(), Description: "Container Infrastructure service",
			}).Extract()
			if err != nil {
				return err
			}
			id = made.ID
		}
		k.note("user", c.Username, actionCreated)
		return nil
	})
	if err != nil || !there {
		return id, err
	}
	return id, k.password(ctx, id)
}

// password sees to it that the user has the one that is configured.
func (k *keystoneSetup) password(ctx context.Context, user string) error {
	c := &k.cfg.KeystoneAuthToken
	right, err := k.admin.PasswordIs(ctx, user, c.Password.Reveal())
	if err != nil {
		return fmt.Errorf("try the password of user %s: %w", c.Username, err)
	}
	switch {
	case right:
		k.note("user", c.Username, actionThere)
		return nil
	case !k.resetPassword:
		k.done = append(k.done, setupAction{"user", c.Username, "is there, but does not log in with [keystone_authtoken] password"})
		return fmt.Errorf("user %s has another password, or is disabled: correct [keystone_authtoken] password, or give --reset-password", c.Username)
	case !k.dryRun:
		enabled := true
		err := k.call(ctx, "password of user "+c.Username, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
			return users.Update(ctx, sc, user, users.UpdateOpts{Password: c.Password.Reveal(), Enabled: &enabled}).Err
		})
		if err != nil {
			return err
		}
	}
	k.note("user", c.Username, actionChanged)
	return nil
}

// serviceRole is whom Keystone's default policy lets look at users' tokens.
const serviceRole = "service"

func (k *keystoneSetup) role(ctx context.Context, user, project string) error {
	c := &k.cfg.KeystoneAuthToken
	name := serviceRole + " of " + c.Username + " in " + c.ProjectName
	return k.call(ctx, "role "+name, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		pages, err := keystoneroles.List(sc, keystoneroles.ListOpts{Name: serviceRole}).AllPages(ctx)
		if err != nil {
			return err
		}
		found, err := keystoneroles.ExtractRoles(pages)
		if err != nil {
			return err
		}
		id := ""
		switch {
		case len(found) > 0:
			id = found[0].ID
		case !k.dryRun:
			made, err := keystoneroles.Create(ctx, sc, keystoneroles.CreateOpts{Name: serviceRole}).Extract()
			if err != nil {
				return err
			}
			id = made.ID
		}
		if id != "" && user != "" && project != "" {
			pages, err := keystoneroles.ListAssignments(sc, keystoneroles.ListAssignmentsOpts{RoleID: id, UserID: user, ScopeProjectID: project}).AllPages(ctx)
			if err != nil {
				return err
			}
			given, err := keystoneroles.ExtractRoleAssignments(pages)
			if err != nil {
				return err
			}
			if len(given) > 0 {
				k.note("role", name, actionThere)
				return nil
			}
			if !k.dryRun {
				if err := keystoneroles.Assign(ctx, sc, id, keystoneroles.AssignOpts{UserID: user, ProjectID: project}).Err; err != nil {
					return err
				}
			}
		}
		k.note("role", name, "given")
		return nil
	})
}

func (k *keystoneSetup) service(ctx context.Context) (id string, err error) {
	kind := cmp.Or(k.cfg.KeystoneAuthToken.ServiceType, "container-infra")
	err = k.call(ctx, "service of type "+kind, func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		pages, err := services.List(sc, services.ListOpts{ServiceType: kind}).AllPages(ctx)
		if err != nil {
			return err
		}
		found, err := services.ExtractServices(pages)
		switch {
		case err != nil:
			return err
		case len(found) > 1:
			return fmt.Errorf("there are %d: delete those that are of no use", len(found))
		case len(found) == 1:
			id = found[0].ID
			k.note("service", kind, actionThere)
			return nil
		case !k.dryRun:
			made, err := services.Create(ctx, sc, services.CreateOpts{
				Type: kind, Extra: map[string]any{"name": "keelson", "description": "Container Infrastructure Management service"},
			}).Extract()
			if err != nil {
				return err
			}
			id = made.ID
		}
		k.note("service", kind, actionCreated)
		return nil
	})
	return id, err
}

func (k *keystoneSetup) endpoints(ctx context.Context, service string) error {
	elsewhere := 0
	err := k.call(ctx, "endpoints", func(ctx context.Context, sc *gophercloud.ServiceClient) error {
		there := map[gophercloud.Availability]endpoints.Endpoint{}
		if service != "" {
			pages, err := endpoints.List(sc, endpoints.ListOpts{ServiceID: service, RegionID: k.region}).AllPages(ctx)
			if err != nil {
				return err
			}
			found, err := endpoints.ExtractEndpoints(pages)
			if err != nil {
				return err
			}
			for _, e := range found {
				there[e.Availability] = e
			}
		}
		for _, interf := range setupInterfaces {
			want, name := k.urls[interf], string(interf)+" in "+k.region
			e, known := there[interf]
			switch {
			case known && e.URL == want:
				k.note("endpoint", name, actionThere)
				continue
			case known && !k.replaceEndpoints:
				elsewhere++
				k.done = append(k.done, setupAction{"endpoint", name, "is there, but leads to " + e.URL})
				continue
			case known && !k.dryRun:
				if err := endpoints.Update(ctx, sc, e.ID, endpoints.UpdateOpts{URL: want}).Err; err != nil {
					return err
				}
			case !known && !k.dryRun:
				err := endpoints.Create(ctx, sc, endpoints.CreateOpts{Availability: interf, Name: "keelson", Region: k.region, URL: want, ServiceID: service}).Err
				if err != nil {
					return err
				}
			}
			action := actionCreated
			if known {
				action = actionChanged
			}
			k.note("endpoint", name, action)
		}
		return nil
	})
	if err == nil && elsewhere > 0 {
		err = fmt.Errorf("%d endpoints lead elsewhere: --replace-endpoints changes them", elsewhere)
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// KeystoneAuthToken is the group [keystone_authtoken]: how users' tokens are
// checked. Option names are those of keystonemiddleware.
type KeystoneAuthToken struct {
	WWWAuthenticateURI        string
	AuthType                  string // "password"
	AuthURL                   string
	Username                  string
	Password                  Secret
	ProjectName               string
	UserDomainName            string
	ProjectDomainName         string
	RegionName                string
	CAFile                    string
	Insecure                  bool
	TokenCacheTime            time.Duration // 0: no cache
	ServiceTokenRoles         []string
	ServiceTokenRolesRequired bool
	ServiceType               string
}

func (k *KeystoneAuthToken) declare() *group {
	g := &group{name: "keystone_authtoken", help: "How tokens of users are checked."}
	g.string(&k.WWWAuthenticateURI, "www_authenticate_uri", "",
		"Address of Keystone for users, told to those who come without a valid token. When unset, auth_url is told.").
		must(httpURL).
		formerly("keystone_authtoken", "auth_uri")
	g.choice(&k.AuthType, "auth_type", "password", []string{"password"}, "How Keelson logs in to Keystone.")
	g.string(&k.AuthURL, "auth_url", "", "Address of Keystone for Keelson itself, like http://controller:5000/v3.").must(httpURL)
	g.string(&k.Username, "username", "keelson", "User that Keelson logs in as.")
	g.secret(&k.Password, "password", "", "That user's password.")
	g.string(&k.ProjectName, "project_name", "service", "Project to log in to.")
	g.string(&k.UserDomainName, "user_domain_name", "Default", "Domain of the user.")
	g.string(&k.ProjectDomainName, "project_domain_name", "Default", "Domain of the project.")
	g.string(&k.RegionName, "region_name", "", "Region of the service catalogue to look in. When unset, any.")
	g.string(&k.CAFile, "cafile", "", "File of the authority that signed the certificates of Keystone and of the services that [catalog] is about, PEM. When unset, those of the system.").must(absolutePath)
	g.bool(&k.Insecure, "insecure", false, "Do not check those certificates. Never in production.")
	g.duration(&k.TokenCacheTime, "token_cache_time", 300, seconds, between(0, 86_400),
		"Seconds for which a checked token is not checked again. A revoked token may work that long, also while Keystone is away. 0 checks every time.")
	g.list(&k.ServiceTokenRoles, "service_token_roles", "service", nil,
		"A service token counts when its user has one of these roles.")
	g.bool(&k.ServiceTokenRolesRequired, "service_token_roles_required", false,
		"Refuse service tokens without one of service_token_roles.")
	g.string(&k.ServiceType, "service_type", "container-infra",
		"What access rules of application credentials call this service. When unset, tokens that are limited by such rules are refused.")
	g.validate = func(fault func(option, rule string)) {
		if k.AuthURL == "" {
			return // no Keystone: the built-in identity service, or a process that checks no tokens
		}
		if k.Username == "" {
			fault("username", "must be set when auth_url is")
		}
		if k.Password == "" {
			fault("password", "must be set when auth_url is")
		}
		if k.ProjectName == "" {
			fault("project_name", "must be set when auth_url is")
		}
	}
	return g
}

// Identity is the group [identity]: the built-in identity service, a part of
// the Keystone API, for trying Keelson without a cloud.
type Identity struct {
	Enabled       bool
	Host          string
	Port          int
	AdminPassword Secret
	DemoPassword  Secret
}

func (i *Identity) declare() *group {
	g := &group{name: "identity", help: "The built-in identity service: the part of the Keystone API that clients need, " +
		"with the users admin and demo. For trying Keelson without a cloud."}
	g.bool(&i.Enabled, "enabled", false, "Run it, and check tokens with it instead of with Keystone.")
	g.string(&i.Host, "host", "127.0.0.1", "Address to listen on.")
	g.port(&i.Port, "port", 5000, "Port to listen on. 0 takes a free one and logs it.")
	g.secret(&i.AdminPassword, "admin_password", "", "Password of the user admin, who has the role admin in the project admin.")
	g.secret(&i.DemoPassword, "demo_password", "", "Password of the user demo, who has the role member in the project demo.")
	g.validate = func(fault func(option, rule string)) {
		if i.Enabled && i.AdminPassword == "" {
			fault("admin_password", "must be set when enabled is true")
		}
		if i.Enabled && i.DemoPassword == "" {
			fault("demo_password", "must be set when enabled is true")
		}
	}
	return g
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"golang.org/x/term"
)

// login is who the user is and where Keystone stands.
type login struct {
	auth     gophercloud.AuthOptions
	endpoint gophercloud.EndpointOpts
	tls      *tls.Config
	name     string // of the cloud, for people and file names
}

// login reads clouds.yaml if a cloud was named, else the OS_* variables.
func (a *app) login() (*login, error) {
	cloud := a.cloud
	if cloud == "" {
		cloud = os.Getenv("OS_CLOUD")
	}
	var l *login
	var err error
	if cloud != "" {
		l, err = loginOfCloud(cloud)
	} else {
		l, err = loginOfEnvironment()
	}
	if err != nil {
		return nil, err
	}
	if a.region != "" {
		l.endpoint.Region = a.region
	}
	if l.tls.InsecureSkipVerify {
		return nil, usage("the configuration of cloud %s switches the verification of certificates off, and keelson always verifies them", l.name).
			next("name the file with the cloud's authority instead: cacert in clouds.yaml, or OS_CACERT")
	}
	if l.auth.Password == "" && l.auth.TokenID == "" && l.auth.ApplicationCredentialSecret == "" {
		if err := a.askPassword(l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func loginOfCloud(name string) (*login, error) {
	auth, endpoint, config, err := clouds.Parse(clouds.WithCloudName(name))
	if err != nil {
		return nil, &failure{
			code: codeUsage, cause: err, message: fmt.Sprintf("reading cloud %s of clouds.yaml: %v", name, err),
			hint: "clouds.yaml is looked for here, in ~/.config/openstack and in /etc/openstack, or where OS_CLIENT_CONFIG_FILE says",
		}
	}
	if auth.IdentityEndpoint == "" {
		return nil, usage("cloud %s of clouds.yaml has no auth_url", name)
	}
	if endpoint.Region == "" {
		endpoint.Region = os.Getenv("OS_REGION_NAME")
	}
	return &login{auth: auth, endpoint: endpoint, tls: config, name: name}, nil
}

// loginOfEnvironment reads the variables that openstackclient reads.
func loginOfEnvironment() (*login, error) {
	auth := gophercloud.AuthOptions{
		IdentityEndpoint:            os.Getenv("OS_AUTH_URL"),
		UserID:                      os.Getenv("OS_USER_ID"),
		Username:                    os.Getenv("OS_USERNAME"),
		Password:                    os.Getenv("OS_PASSWORD"),
		Passcode:                    os.Getenv("OS_PASSCODE"),
		TokenID:                     os.Getenv("OS_TOKEN"),
		ApplicationCredentialID:     os.Getenv("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   os.Getenv("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: os.Getenv("OS_APPLICATION_CREDENTIAL_SECRET"),
	}
	if auth.IdentityEndpoint == "" {
		return nil, usage("it is not known which cloud to talk to: neither OS_CLOUD nor OS_AUTH_URL is set").
			next("source the openrc file of your cloud, or name a cloud of your clouds.yaml with --os-cloud")
	}
	at, err := url.Parse(auth.IdentityEndpoint)
	if err != nil || at.Host == "" {
		return nil, usage("OS_AUTH_URL is %q, which is not a URL", auth.IdentityEndpoint)
	}
	if auth.ApplicationCredentialSecret == "" {
		auth.ApplicationCredentialID, auth.ApplicationCredentialName = "", ""
	}
	if auth.TokenID == "" && auth.ApplicationCredentialID == "" {
		if auth.UserID == "" && auth.Username == "" {
			return nil, usage("OS_AUTH_URL is set, but not who you are").
				next("set OS_USERNAME and OS_PASSWORD, or OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET")
		}
		if auth.Username != "" {
			auth.DomainID, auth.DomainName = domain("OS_USER_DOMAIN_ID", "OS_USER_DOMAIN_NAME")
		}
	}
	if auth.ApplicationCredentialSecret == "" { // those have their project with them
		auth.Scope = scopeOfEnvironment()
	}
	config, err := tlsOfEnvironment()
	if err != nil {
		return nil, err
	}
	endpoint := gophercloud.EndpointOpts{Region: os.Getenv("OS_REGION_NAME"), Availability: gophercloud.AvailabilityPublic}
	switch first(os.Getenv("OS_INTERFACE"), os.Getenv("OS_ENDPOINT_TYPE")) {
	case "internal", "internalURL":
		endpoint.Availability = gophercloud.AvailabilityInternal
	case "admin", "adminURL":
		endpoint.Availability = gophercloud.AvailabilityAdmin
	}
	return &login{auth: auth, endpoint: endpoint, tls: config, name: at.Hostname()}, nil
}

// domain is the one that the variables name, else OS_DEFAULT_DOMAIN or the
// domain with the id "default", as with openstackclient.
func domain(idVariable, nameVariable string) (id, name string) {
	if id = os.Getenv(idVariable); id != "" {
		return id, ""
	}
	if name = os.Getenv(nameVariable); name != "" {
		return "", name
	}
	return first(os.Getenv("OS_DEFAULT_DOMAIN"), "default"), ""
}

func scopeOfEnvironment() *gophercloud.AuthScope {
	if id := first(os.Getenv("OS_PROJECT_ID"), os.Getenv("OS_TENANT_ID")); id != "" {
		return &gophercloud.AuthScope{ProjectID: id}
	}
	if name := first(os.Getenv("OS_PROJECT_NAME"), os.Getenv("OS_TENANT_NAME")); name != "" {
		scope := &gophercloud.AuthScope{ProjectName: name}
		scope.DomainID, scope.DomainName = domain("OS_PROJECT_DOMAIN_ID", "OS_PROJECT_DOMAIN_NAME")
		return scope
	}
	return nil
}

func tlsOfEnvironment() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch strings.ToLower(os.Getenv("OS_INSECURE")) {
	case "", "0", "false", "no":
	default:
		config.InsecureSkipVerify = true // and so refused by login
	}
	if file := os.Getenv("OS_CACERT"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, usage("reading the authority that OS_CACERT names: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, usage("%s, which OS_CACERT names, holds no certificate", file)
		}
	}
	if cert, key := os.Getenv("OS_CERT"), os.Getenv("OS_KEY"); cert != "" && key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, usage("reading the certificate and key that OS_CERT and OS_KEY name: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// askPassword asks on the terminal, as openstackclient does.
func (a *app) askPassword(l *login) error {
	missing := usage("there is no password for %s", first(l.auth.Username, l.auth.UserID)).
		next("set OS_PASSWORD, or use an application credential")
	if !term.IsTerminal(int(a.In.Fd())) {
		return missing
	}
	_, _ = fmt.Fprintf(a.Err, "Password of %s: ", first(l.auth.Username, l.auth.UserID))
	password, err := term.ReadPassword(int(a.In.Fd()))
	a.say("")
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("reading the password: %w", err)
	}
	if len(password) == 0 {
		return missing
	}
	l.auth.Password = string(password)
	return nil
}

// first is the first that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

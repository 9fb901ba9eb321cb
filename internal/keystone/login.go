// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ErrLoginRefused means that Keystone does not take the user's name and
// password, or does not let the user into the project.
var ErrLoginRefused = errors.New("login is refused")

// User is who logs in.
type User struct {
	Domain, Name, Password string // Domain by name
}

// Project is one that a user may work in.
type Project struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Domain  string `json:"domain_id"`
	Enabled bool   `json:"enabled"`
}

// Login gets a token without a project for a user, and what it stands for. The
// text of the token is a secret. ErrLoginRefused, ErrUnavailable.
func (c *Client) Login(ctx context.Context, user User) (text string, token *Token, err error) {
	type object = map[string]any
	return c.issue(ctx, object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{
			"name": user.Name, "password": user.Password, "domain": object{"name": user.Domain},
		}}},
		"scope": "unscoped",
	}})
}

// LoginWithCredential gets a token for an application credential, and what it
// stands for: the one project that the credential was made in. Nobody gets from
// it to another one. ErrLoginRefused, ErrUnavailable.
func (c *Client) LoginWithCredential(ctx context.Context, id, secret string) (text string, token *Token, err error) {
	type object = map[string]any
	return c.issue(ctx, object{"auth": object{"identity": object{
		"methods": []string{"application_credential"}, "application_credential": object{"id": id, "secret": secret},
	}}})
}

// Enter gets a token for a project from another one of the same user. It lives
// no longer than the first. ErrLoginRefused, ErrUnavailable.
func (c *Client) Enter(ctx context.Context, from, projectID string) (text string, token *Token, err error) {
	type object = map[string]any
	return c.issue(ctx, object{"auth": object{
		"identity": object{"methods": []string{"token"}, "token": object{"id": from}},
		"scope":    object{"project": object{"id": projectID}},
	}})
}

// issue asks for a token. Errors never repeat what was sent or answered.
func (c *Client) issue(ctx context.Context, request any) (string, *Token, error) {
	var answer struct {
		Token tokenBody `json:"token"`
	}
	header, err := c.inName(ctx, http.MethodPost, "/auth/tokens?nocatalog", "", request, &answer)
	if err != nil {
		return "", nil, fmt.Errorf("log in: %w", err)
	}
	text, token := header.Get("X-Subject-Token"), answer.Token.token()
	if !isHeaderText(text) || token.UserID == "" || !time.Now().Before(token.ExpiresAt) {
		return "", nil, fmt.Errorf("log in: %w: its answer has no token", ErrUnavailable)
	}
	return text, token, nil
}

// ProjectsOf lists the projects that the token's user may enter.
// ErrLoginRefused when Keystone no longer takes the token, ErrUnavailable.
func (c *Client) ProjectsOf(ctx context.Context, token string) ([]Project, error) {
	var answer struct {
		Projects []Project `json:"projects"`
	}
	if _, err := c.inName(ctx, http.MethodGet, "/auth/projects", token, nil, &answer); err != nil {
		return nil, fmt.Errorf("list the user's projects: %w", err)
	}
	enabled := answer.Projects[:0]
	for _, p := range answer.Projects {
		if p.Enabled {
			enabled = append(enabled, p)
		}
	}
	return enabled, nil
}

// Revoke makes a token of no use, in its own name. One that is of no use
// already is success.
func (c *Client) Revoke(ctx context.Context, token string) error {
	_, err := c.inName(ctx, http.MethodDelete, "/auth/tokens", token, nil, nil)
	if err != nil && !errors.Is(err, ErrLoginRefused) {
		return fmt.Errorf("revoke a token: %w", err)
	}
	return nil
}

// largestAnswer of Keystone that is read, in bytes.
const largestAnswer = 4 << 20

// inName asks Keystone in the name of the token, which may be empty; the
// service user has no part in it. A refusal (401, 403, 404) is
// ErrLoginRefused.
func (c *Client) inName(ctx context.Context, method, path, token string, body, answer any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var content io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	// The service's endpoint ends in "/v3/".
	request, err := http.NewRequestWithContext(ctx, method, c.service.ServiceURL(path[1:]), content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		if !isHeaderText(token) {
			return nil, ErrLoginRefused
		}
		request.Header.Set("X-Auth-Token", token)
		if method == http.MethodDelete {
			request.Header.Set("X-Subject-Token", token)
		}
	}
	response, err := c.service.HTTPClient.Do(request)
	if err != nil {
		return nil, unavailable(err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return nil, ErrLoginRefused
	default:
		return nil, fmt.Errorf("%w: it answered %s", ErrUnavailable, response.Status)
	}
	if answer != nil {
		if err := json.NewDecoder(io.LimitReader(response.Body, largestAnswer)).Decode(answer); err != nil {
			return nil, fmt.Errorf("%w: its answer was not understood", ErrUnavailable)
		}
	}
	return response.Header, nil
}

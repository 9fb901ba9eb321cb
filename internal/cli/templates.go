// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/keelson/keelson/api/v1"
)

func templatePath(ident string) string { return "/clustertemplates/" + url.PathEscape(ident) }

// templates are all cluster templates that the user sees.
func (s *service) templates(ctx context.Context) ([]v1.ClusterTemplate, error) {
	var all []v1.ClusterTemplate
	err := s.list(ctx, "/clustertemplates", func(text json.RawMessage) (string, error) {
		var page v1.ClusterTemplates
		err := json.Unmarshal(text, &page)
		all = append(all, page.ClusterTemplates...)
		return page.Next, err
	})
	return all, err
}

// onlyTemplate is the template if there is just one.
func (s *service) onlyTemplate(ctx context.Context) (string, error) {
	all, err := s.templates(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, t := range all {
		name := t.UUID
		if t.Name != nil {
			name = *t.Name
		}
		names = append(names, name)
	}
	switch len(all) {
	case 0:
		return "", &failure{code: codeNotFound, message: "there is no cluster template to make a cluster from"}
	case 1:
		return all[0].UUID, nil
	}
	return "", usage("which cluster template? There are %s", strings.Join(names, ", ")).next("say it with --template NAME")
}

// withHint adds what the user can do, unless that is known already.
func withHint(err error, hint string) error {
	if f, ok := errors.AsType[*failure](err); ok && f.hint == "" {
		f.hint = hint
	}
	return err
}

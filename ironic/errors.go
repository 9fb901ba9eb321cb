// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/keelson/keelson/internal/fault"
)

// classify turns what an HTTP call came to into an error that says whether
// trying again may help. What Ironic said is in the cause only: it names
// conductors and management addresses.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &answer) {
		return temporary(doing, err)
	}
	cause := said(doing, answer)
	switch code := answer.Actual; {
	case code == http.StatusConflict:
		return fault.Temporary(cause, "the bare-metal service is busy with this host")
	case code == http.StatusUnauthorized:
		return fault.Temporary(cause, "the bare-metal service refused Keelson's credentials; the operator must check the [ironic] section of the configuration")
	case code == http.StatusForbidden:
		return fault.Permanent(cause, "the bare-metal service does not let Keelson do this; the operator must check the roles of its account, and whether the host is protected")
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return fault.Temporary(cause, "the bare-metal service does not work at the moment")
	default:
		return fault.Permanent(cause, "the bare-metal service refused a request of Keelson's")
	}
}

// said is what Ironic answered, for the log.
func said(doing string, answer gophercloud.ErrUnexpectedResponseCode) error {
	return fmt.Errorf("%s: %d %s: %s", doing, answer.Actual, http.StatusText(answer.Actual), faultText(answer.Body))
}

// temporary is for calls that brought no answer.
func temporary(doing string, err error) error {
	return fault.Temporary(fmt.Errorf("%s: %w", doing, err), "the bare-metal service cannot be reached")
}

func isStatus(err error, code int) bool { return gophercloud.ResponseCodeIs(err, code) }

// faultText digs the sentence out of an error answer. Ironic packs it as JSON
// inside a JSON string; version errors, proxies and newer releases answer
// differently. Text that is not understood is returned as it is, shortened.
func faultText(body []byte) string {
	var outer struct {
		Message json.RawMessage `json:"error_message"`
	}
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &outer) == nil && len(outer.Message) > 0 {
		inner := []byte(outer.Message)
		var packed string
		if json.Unmarshal(inner, &packed) == nil {
			text, inner = packed, []byte(packed)
		}
		var detail struct {
			Fault       string `json:"faultstring"`
			Description string `json:"description"`
			Title       string `json:"title"`
		}
		if json.Unmarshal(inner, &detail) == nil {
			for _, s := range []string{detail.Fault, detail.Description, detail.Title} {
				if s != "" {
					text = s
					break
				}
			}
		}
	}
	const longest = 500
	text = strings.ToValidUTF8(text, "?")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

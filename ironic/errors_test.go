// SPDX-License-Identifier: Apache-2.0

package ironic

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFaultText(t *testing.T) {
	for body, want := range map[string]string{
		`{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"Node x could not be found.\", \"debuginfo\": null}"}`: "Node x could not be found.",
		`{"error_message": "{\"code\": 406, \"title\": \"Not Acceptable\", \"description\": \"Version 1.99 …\"}"}`:               "Version 1.99 …",
		`{"error_message": "{\"code\": 404, \"title\": \"Not Found\", \"description\": \"\"}"}`:                                  "Not Found",
		`{"error_message": {"faultcode": "Server", "faultstring": "boom"}}`:                                                      "boom",
		`{"error_message": "plain"}`: "plain",
		`<html>502</html>`:           "<html>502</html>",
		``:                           "",
	} {
		if got := faultText([]byte(body)); got != want {
			t.Errorf("faultText(%s) = %q, want %q", body, got, want)
		}
	}
}

func FuzzFaultText(f *testing.F) {
	f.Add([]byte(`{"error_message": "{\"faultstring\": \"x\"}"}`))
	f.Add([]byte(`{"error_message": {"title": 5}}`))
	f.Add([]byte(strings.Repeat("ä", 400)))
	f.Fuzz(func(t *testing.T, body []byte) {
		if text := faultText(body); len(text) > 510 || !utf8.ValidString(text) {
			t.Errorf("%d bytes, valid %v", len(text), utf8.ValidString(text))
		}
	})
}

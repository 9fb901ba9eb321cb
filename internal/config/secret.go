// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not be shown: however it is printed, logged or
// marshalled, it reads ****. Only Reveal gives the text.
type Secret string

const mask = "****"

// Reveal returns the text itself, for the one call that needs it.
func (s Secret) Reveal() string { return string(s) }

// String returns **** or, for an unset secret, nothing.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format prints what String returns, for every verb. A Stringer alone is not
// enough: verbs that do not fit a string, like %d, would print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the text from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the text from JSON, YAML and their like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

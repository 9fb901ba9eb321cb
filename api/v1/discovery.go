// SPDX-License-Identifier: Apache-2.0

package v1

// Versions is the answer to GET /.
type Versions struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Versions    []Version `json:"versions"`
}

// Version is one version of the API.
type Version struct {
	ID         string `json:"id"`
	Status     string `json:"status"`
	MaxVersion string `json:"max_version"`
	MinVersion string `json:"min_version"`
	Links      []Link `json:"links"`
}

// MediaType is what a version of the API speaks.
type MediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

// DocumentLink is a link with the type of what it points at.
type DocumentLink struct {
	Link
	Type string `json:"type,omitempty"`
}

// UnsupportedVersion is the error answer to a microversion out of range.
type UnsupportedVersion struct {
	Errors []UnsupportedVersionError `json:"errors"`
}

// UnsupportedVersionError is its one element.
type UnsupportedVersionError struct {
	Code        string `json:"code"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	MaxVersion  string `json:"max_version"`
	MinVersion  string `json:"min_version"`
	Links       []Link `json:"links"`
}

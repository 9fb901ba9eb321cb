// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// Scope says whose records may be seen.
type Scope struct {
	ProjectID string // records of this project
	UserID    string // without a project: records this user owns
	All       bool   // administrators: records of all projects
}

// own limits a query to the records of the scope. The zero scope sees none.
func (sc Scope) own(db *gorm.DB) *gorm.DB {
	switch {
	case sc.All:
		return db
	case sc.ProjectID != "":
		return db.Where("project_id = ?", sc.ProjectID)
	case sc.UserID != "":
		return db.Where("user_id = ?", sc.UserID)
	default:
		return db.Where("1 = 0")
	}
}

// Page says which part of a list is wanted, in which order. The internal id is
// always the second sort key.
type Page struct {
	Marker  string // the last item of the page before: a uuid, for quotas an id
	Limit   int    // 0 means no limit
	SortKey string // a column of the table; empty means id
	SortDir string // "asc" or "desc"; empty means asc
}

// paged puts the page's order and limits on db, a query of T that is already
// limited to what may be seen. markerColumn is what Marker names.
func paged[T any](db *gorm.DB, p Page, markerColumn string) (*gorm.DB, error) {
	stmt := &gorm.Statement{DB: db}
	if err := stmt.Parse(new(T)); err != nil {
		return nil, err
	}
	key := p.SortKey
	if key == "" {
		key = "id"
	}
	// The schema's columns are the allow-list: nothing else gets into the SQL.
	// What is sealed has no order that anyone should learn.
	field := stmt.Schema.FieldsByDBName[key]
	if field == nil || field.GORMDataType == schema.Bytes {
		return nil, fmt.Errorf("%w: %q", ErrBadSortKey, key)
	}
	column := stmt.Quote(field.DBName)
	after, dir := ">", "ASC"
	switch p.SortDir {
	case "", "asc":
	case "desc":
		after, dir = "<", "DESC"
	default:
		return nil, fmt.Errorf("%w: direction %q", ErrBadSortKey, p.SortDir)
	}

	page := db.Session(&gorm.Session{}) // db itself is used for the marker as well
	if p.Marker != "" {
		var marker struct {
			ID    int64
			Unset bool
		}
		r := db.Session(&gorm.Session{}).Model(new(T)).
			Select("id, "+column+" IS NULL AS unset").
			Where(markerColumn+" = ?", p.Marker).Limit(1).Scan(&marker)
		if r.Error != nil {
			return nil, r.Error
		}
		if r.RowsAffected == 0 {
			return nil, ErrBadMarker
		}
		page = page.Where(keyset(stmt.Quote(stmt.Schema.Table), column, after, marker.Unset), map[string]any{"marker": marker.ID})
	}
	if key != "id" {
		page = page.Order(column + " " + dir)
	}
	page = page.Order("id " + dir)
	if p.Limit > 0 {
		page = page.Limit(p.Limit)
	}
	return page, nil
}

// keyset is the condition for rows behind the marker. The marker's value is
// read by the database itself, so no value changes form on its way. Both
// databases sort NULL as the smallest value.
func keyset(table, column, after string, unset bool) string {
	if column == "`id`" {
		return "id " + after + " @marker"
	}
	value := "(SELECT " + column + " FROM " + table + " WHERE id = @marker)"
	switch {
	case unset && after == ">":
		return "((" + column + " IS NULL AND id > @marker) OR " + column + " IS NOT NULL)"
	case unset:
		return "(" + column + " IS NULL AND id < @marker)"
	case after == ">":
		return "(" + column + " > " + value + " OR (" + column + " = " + value + " AND id > @marker))"
	default:
		return "(" + column + " < " + value + " OR " + column + " IS NULL OR (" + column + " = " + value + " AND id < @marker))"
	}
}

// find returns the one row of db that ident names: by uuid if it looks like
// one, else by name.
func find[T any](db *gorm.DB, ident string) (*T, error) {
	if !utf8.ValidString(ident) {
		return nil, ErrNotFound // MySQL would refuse the question
	}
	column := "name"
	if looksLikeUUID(ident) {
		column = "uuid"
	}
	return one[T](db.Where(column+" = ?", ident))
}

// one returns the only row of a query.
func one[T any](db *gorm.DB) (*T, error) {
	var rows []T
	if err := db.Limit(2).Find(&rows).Error; err != nil {
		return nil, err
	}
	switch len(rows) {
	case 0:
		return nil, ErrNotFound
	case 1:
		return &rows[0], nil
	default:
		return nil, ErrAmbiguous
	}
}

// looksLikeUUID tells whether Python's uuid parser would take s, which is how
// OpenStack services tell uuids from names.
func looksLikeUUID(s string) bool {
	s = strings.NewReplacer("urn:", "", "uuid:", "").Replace(s)
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
		if !hex {
			return false
		}
	}
	return true
}

// clip shortens text to what fits its column whatever the database.
func clip(text string) string {
	const most = 16 << 10
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}

// SPDX-License-Identifier: Apache-2.0

package thing

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The types of values (TD 1.1 §5.3.2.1) that are used. An array is read as such and never an argument.
const (
	Boolean = "boolean"
	Integer = "integer"
	Number  = "number"
	String  = "string"
	Object  = "object"
	Array   = "array"
)

var types = []string{Boolean, Integer, Number, String, Object, Array}

// Schema describes a value (TD 1.1 §5.3.2.1): a DataSchema without what nobody here uses.
type Schema struct {
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Type        string            `json:"type,omitempty"`
	Unit        string            `json:"unit,omitempty"` // SenML (RFC 8428 §12.1)
	Minimum     *float64          `json:"minimum,omitempty"`
	Maximum     *float64          `json:"maximum,omitempty"`
	MaxLength   *int              `json:"maxLength,omitempty"` // characters
	Enum        []any             `json:"enum,omitempty"`
	Default     any               `json:"default,omitempty"`
	Properties  map[string]Schema `json:"properties,omitempty"` // of an object …
	Required    []string          `json:"required,omitempty"`   // … those that must be there
	ReadOnly    bool              `json:"readOnly,omitempty"`
}

// ArgumentError is a value that a schema does not allow. Its text names the field and what is allowed, and can be shown to the person who typed it.
type ArgumentError struct {
	Field string // "" = the value as a whole
	Got   string // as it was given
	Want  string // the type, range, values and unit that are allowed
}

func (e *ArgumentError) Error() string {
	switch {
	case e.Field == "":
		return fmt.Sprintf("the value is %s: want %s", e.Got, e.Want)
	case e.Got == "":
		return fmt.Sprintf("%s is missing: want %s", e.Field, e.Want)
	}
	return fmt.Sprintf("%s is %s: want %s", e.Field, e.Got, e.Want)
}

// Bounds returns the pointers that Minimum and Maximum want.
func Bounds(low, high float64) (minimum, maximum *float64) { return &low, &high }

func (s *Schema) check(levels int) error {
	if levels == 0 {
		return fmt.Errorf("schemas in more than %d levels", maxLevels)
	}
	if s.Type != "" && !slices.Contains(types, s.Type) {
		return fmt.Errorf("type %.40q: want one of %s", s.Type, strings.Join(types, ", "))
	}
	if err := errors.Join(checkText("title", s.Title, maxText), checkText("description", s.Description, maxText), checkText("unit", s.Unit, maxName)); err != nil {
		return err
	}
	if len(s.Enum) > maxValues {
		return fmt.Errorf("%d values in an enum: want at most %d", len(s.Enum), maxValues)
	}
	for _, v := range s.Enum {
		if text, ok := v.(string); ok {
			if err := checkText("value", text, maxText); err != nil {
				return err
			}
		}
	}
	for name, f := range s.Properties {
		if err := errors.Join(checkText("field", name, maxName), f.check(levels-1)); err != nil {
			return fmt.Errorf("field %.80q: %w", name, err)
		}
	}
	return nil
}

// Check judges a value of Go's: bool, string, float64 or another number, map[string]any. The error is an *ArgumentError. field is what to call the value.
// A nil schema allows nothing but the absence of a value.
func (s *Schema) Check(field string, v any) error {
	if s == nil {
		if v == nil {
			return nil
		}
		return &ArgumentError{field, shown(v), "no value at all"}
	}
	wrong := func() error { return &ArgumentError{field, shown(v), s.Want()} }
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return same(e, v) }) {
		return wrong()
	}
	switch s.Type {
	case Boolean:
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	case Integer, Number:
		n, ok := number(v)
		if !ok || s.Type == Integer && n != math.Trunc(n) || s.Minimum != nil && n < *s.Minimum || s.Maximum != nil && n > *s.Maximum {
			return wrong()
		}
	case String:
		text, ok := v.(string)
		if !ok || !utf8.ValidString(text) || s.MaxLength != nil && utf8.RuneCountInString(text) > *s.MaxLength {
			return wrong()
		}
	case Object:
		fields, ok := v.(map[string]any)
		if !ok {
			return wrong()
		}
		return s.checkFields(field, fields)
	case Array:
		if _, ok := v.([]any); !ok {
			return wrong()
		}
	}
	return nil
}

func (s *Schema) checkFields(field string, fields map[string]any) error {
	prefix := ""
	if field != "" {
		prefix = field + "."
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, ok := s.Properties[name]
		if !ok {
			return &ArgumentError{prefix + name, "not known", "only " + s.fields()}
		}
		if err := f.Check(prefix+name, fields[name]); err != nil {
			return err
		}
	}
	for _, name := range s.Required {
		if _, there := fields[name]; !there {
			f := s.Properties[name]
			return &ArgumentError{Field: prefix + name, Want: f.Want()}
		}
	}
	return nil
}

func (s *Schema) fields() string {
	if len(s.Properties) == 0 {
		return "no field at all"
	}
	return strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", ")
}

// Want says in words what the schema allows.
func (s *Schema) Want() string {
	if len(s.Enum) > 0 {
		var all []string
		for _, v := range s.Enum {
			all = append(all, shown(v))
		}
		return "one of " + strings.Join(all, ", ")
	}
	text := map[string]string{Boolean: "on or off", Integer: "a whole number", Number: "a number", String: "text", Object: "fields " + s.fields(), Array: "a list"}[s.Type]
	if text == "" {
		text = "a value"
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(" from %s to %s", plain(*s.Minimum), plain(*s.Maximum))
	case s.Minimum != nil:
		text += fmt.Sprintf(" from %s on", plain(*s.Minimum))
	case s.Maximum != nil:
		text += fmt.Sprintf(" up to %s", plain(*s.Maximum))
	case s.MaxLength != nil:
		text += fmt.Sprintf(" of at most %d characters", *s.MaxLength)
	}
	if s.Unit != "" {
		text += " " + s.Unit
	}
	return text
}

func plain(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// shown writes a value for a message: bounded, and harmless on a terminal.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%.80q", v)
	case bool:
		return map[bool]string{true: "on", false: "off"}[v]
	case map[string]any:
		return fmt.Sprintf("an object of %d fields", len(v))
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	}
	if n, ok := number(v); ok {
		return plain(n)
	}
	return fmt.Sprintf("%.80q", fmt.Sprint(v))
}

// number returns any finite number of Go's.
func number(v any) (float64, bool) {
	var n float64
	switch v := v.(type) {
	case float64:
		n = v
	case float32:
		n = float64(v)
	case int:
		n = float64(v)
	case int64:
		n = float64(v)
	case uint64:
		n = float64(v)
	default:
		return 0, false
	}
	return n, !math.IsNaN(n) && !math.IsInf(n, 0)
}

func same(a, b any) bool {
	x, isX := number(a)
	y, isY := number(b)
	if isX || isY {
		return isX && isY && x == y
	}
	switch a.(type) {
	case string, bool, nil:
		return a == b
	}
	return false
}

// Float returns a number that Check has let pass.
func Float(v any) float64 {
	n, _ := number(v)
	return n
}

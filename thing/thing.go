// SPDX-License-Identifier: Apache-2.0

// Package thing is what a device says of itself: a W3C Web of Things Thing Description 1.1 (Recommendation of 5 December 2023) as plain data.
//
// Start with Build to make one, Sign and OpenSigned to hand it on, Parse to read one, and Schema.Check to judge an argument. Nothing here does input or
// output, and nothing is processed as JSON-LD: the terms of ours have the prefix "sb" and are read by their text.
package thing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/streembit/edge"
)

// MaxSize bounds a description in its JSON form, in bytes: some 150 sensors. It also bounds what a device puts on each hub.
const MaxSize = 48 << 10

// Bounds of what is read from others.
const (
	maxName   = 128 // bytes of a name of a property, an action or a field
	maxText   = 512 // bytes of a title or description
	maxValues = 512 // of an enum
	maxLevels = 3   // of schemas in schemas
)

// ErrBadDescription is wrapped when something is no description that this program can use.
var ErrBadDescription = errors.New("not a Thing Description that can be used")

// Context names the vocabulary of TD 1.1 (§4) and that of ours. They are names: nothing ever opens them.
const (
	Context    = "https://www.w3.org/2022/wot/td/v1.1"
	ownContext = "tag:github.com,2026:streembit/edge:td#"
)

// Description is one device's (TD 1.1 §5.3.1.1). Its JSON has one form: maps are written in the order of their keys.
type Description struct {
	Context     []any               `json:"@context"`
	ID          string              `json:"id"` // "streembit:" and the device's id
	Title       string              `json:"title"`
	Description string              `json:"description,omitempty"`
	Version     Version             `json:"version"`
	Base        string              `json:"base"`
	Labels      string              `json:"sb:labels,omitempty"` // what the device was told to call itself; it decides nothing
	Security    []string            `json:"security"`
	Definitions map[string]Security `json:"securityDefinitions"`
	Properties  map[string]Property `json:"properties,omitempty"`
	Actions     map[string]Action   `json:"actions,omitempty"`
	Events      map[string]Event    `json:"events,omitempty"`
}

// Version tells which of a device's descriptions is newer: Instance is a decimal number that only rises.
type Version struct {
	Instance string `json:"instance"`
	Model    string `json:"model,omitempty"` // of the program
}

// Number returns the instance as a number; 0 is none.
func (v Version) Number() uint64 {
	n, err := strconv.ParseUint(v.Instance, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != v.Instance {
		return 0
	}
	return n
}

// Security is a security scheme (TD 1.1 §5.3.3.1). There is one: what the channel of the fleet's members proves.
type Security struct {
	Scheme      string `json:"scheme"`
	Description string `json:"description,omitempty"`
}

// Form says how to get at something (TD 1.1 §5.3.4.2). Href is relative to Base.
type Form struct {
	Href        string   `json:"href"`
	ContentType string   `json:"contentType"`
	Op          []string `json:"op"`
}

// Property is a value that can be read, and written unless it is read-only.
type Property struct {
	Schema
	Observable bool   `json:"observable"`
	Stream     string `json:"sb:stream,omitempty"` // whoever may read this stream may read the property; "" = whoever may command it
	Forms      []Form `json:"forms"`
}

// Action is something that the device does when it is told.
type Action struct {
	Title       string  `json:"title,omitempty"`
	Description string  `json:"description,omitempty"`
	Input       *Schema `json:"input,omitempty"`
	Output      *Schema `json:"output,omitempty"`
	Safe        bool    `json:"safe"`                     // changes nothing
	Idempotent  bool    `json:"idempotent"`               // twice is as once
	Signed      bool    `json:"sb:signed,omitempty"`      // destructive: each request is signed singly
	Stream      string  `json:"sb:stream,omitempty"`      // the stream that its output is of; it takes the right to read it, too
	Data        string  `json:"sb:contentType,omitempty"` // of the bytes that it streams before its result; "" = none
	Forms       []Form  `json:"forms"`
}

// Event is something that happens on the device and that it tells those who have subscribed (TD 1.1 §5.3.1.5).
type Event struct {
	Title       string  `json:"title,omitempty"`
	Description string  `json:"description,omitempty"`
	Data        *Schema `json:"data,omitempty"`      // what it tells of it
	Streams     bool    `json:"sb:stream,omitempty"` // it is about a sensor: whoever may read its stream hears of it, too
	Forms       []Form  `json:"forms"`
}

// Device returns whose description it says to be.
func (d *Description) Device() (edge.ID, error) {
	text, ok := cutScheme(d.ID)
	if !ok {
		return edge.ID{}, fmt.Errorf("thing: id %.80q: %w", d.ID, ErrBadDescription)
	}
	id, err := edge.ParseID(text)
	if err != nil {
		return edge.ID{}, fmt.Errorf("thing: id: %w: %w", ErrBadDescription, err)
	}
	return id, nil
}

const scheme = "streembit:"

func cutScheme(s string) (string, bool) {
	if len(s) < len(scheme) || s[:len(scheme)] != scheme {
		return "", false
	}
	return s[len(scheme):], true
}

// Encode writes the JSON form, application/td+json.
func (d *Description) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("thing: encoding: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("thing: encoding: %d bytes, at most %d: %w", b.Len(), MaxSize, ErrBadDescription)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Parse reads the JSON form and refuses what could not be shown or asked for: an error wraps ErrBadDescription. Terms that it does not know are
// passed over, as TD 1.1 §6.3.1 asks.
func Parse(data []byte) (*Description, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("thing: parsing %d bytes, at most %d: %w", len(data), MaxSize, ErrBadDescription)
	}
	d := &Description{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("thing: parsing: %w: %w", ErrBadDescription, err)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("thing: parsing: %w: %w", ErrBadDescription, err)
	}
	return d, nil
}

func (d *Description) check() error {
	if !slices.ContainsFunc(d.Context, func(c any) bool { return c == Context }) {
		return errors.New("its @context is not that of TD 1.1")
	}
	if _, err := d.Device(); err != nil {
		return err
	}
	if d.Version.Number() == 0 {
		return fmt.Errorf("version %.40q is no number from 1 on", d.Version.Instance)
	}
	if err := errors.Join(checkText("title", d.Title, maxText), checkText("description", d.Description, maxText),
		checkText("labels", d.Labels, maxText), checkText("model", d.Version.Model, maxText)); err != nil {
		return err
	}
	for name, p := range d.Properties {
		if err := errors.Join(checkText("property", name, maxName), checkText("stream", p.Stream, maxName), p.check(maxLevels)); err != nil {
			return fmt.Errorf("property %.80q: %w", name, err)
		}
	}
	for name, e := range d.Events {
		err := errors.Join(checkText("event", name, maxName), checkText("title", e.Title, maxText), checkText("description", e.Description, maxText))
		if e.Data != nil {
			err = errors.Join(err, e.Data.check(maxLevels))
		}
		if err != nil {
			return fmt.Errorf("event %.80q: %w", name, err)
		}
	}
	for name, a := range d.Actions {
		err := errors.Join(checkText("action", name, maxName), checkText("title", a.Title, maxText), checkText("description", a.Description, maxText),
			checkText("stream", a.Stream, maxName), checkText("content type", a.Data, maxName))
		for _, s := range []*Schema{a.Input, a.Output} {
			if s != nil {
				err = errors.Join(err, s.check(maxLevels))
			}
		}
		if err != nil {
			return fmt.Errorf("action %.80q: %w", name, err)
		}
		if a.Safe && a.Signed {
			return fmt.Errorf("action %.80q is both safe and destructive", name)
		}
	}
	return nil
}

// checkText refuses what would not fit a table or could move a terminal's cursor.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes: want at most %d", what, len(s), limit)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return fmt.Errorf("%s %.80q is not printable", what, s)
		}
	}
	return nil
}

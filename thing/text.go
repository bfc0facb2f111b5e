// SPDX-License-Identifier: Apache-2.0

package thing

import (
	"strconv"
	"strings"
	"time"
)

// Value makes a value of a word that somebody typed, and checks it: on, off, true or false; a number; where the unit is s also a duration such as 1m30s;
// text. The error is an *ArgumentError.
func (s *Schema) Value(field, word string) (any, error) {
	wrong := &ArgumentError{field, strconv.Quote(word), s.Want()}
	var v any
	switch s.Type {
	case Boolean:
		on, ok := map[string]bool{"on": true, "true": true, "1": true, "off": false, "false": false, "0": false}[word]
		if !ok {
			return nil, wrong
		}
		v = on
	case Integer, Number:
		n, err := strconv.ParseFloat(word, 64)
		if d, derr := time.ParseDuration(word); err != nil && derr == nil && s.Unit == "s" {
			n, err = d.Seconds(), nil
		}
		if err != nil {
			return nil, wrong
		}
		v = n
	case String, "":
		v = word
	default:
		return nil, wrong
	}
	if err := s.Check(field, v); err != nil {
		return nil, err
	}
	return v, nil
}

// Arguments makes the fields of an action's input of words "key=value", and checks them. The error is an *ArgumentError. A nil schema takes no words.
func (s *Schema) Arguments(words []string) (map[string]any, error) {
	if s == nil {
		if len(words) > 0 {
			return nil, &ArgumentError{"", strconv.Quote(words[0]), "no arguments"}
		}
		return nil, nil
	}
	out := map[string]any{}
	for _, w := range words {
		key, text, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, &ArgumentError{"", strconv.Quote(w), "KEY=VALUE, with a key of " + s.fields()}
		}
		f, known := s.Properties[key]
		if !known {
			return nil, &ArgumentError{key, "not known", "only " + s.fields()}
		}
		if _, twice := out[key]; twice {
			return nil, &ArgumentError{key, "given twice", f.Want()}
		}
		v, err := f.Value(key, text)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	return out, s.Check("", out)
}

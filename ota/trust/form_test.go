// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"errors"
	"strings"
	"testing"
)

// TestForm_Refused: what says the same to a lenient parser, and more than the format has.
func TestForm_Refused(t *testing.T) {
	const good = `{"signatures":[{"keyid":"k","sig":"ab"}],"signed":{"a":1,"b":"é <&> \n"}}`
	if _, err := readForm([]byte(good)); err != nil {
		t.Fatal(err)
	}
	const indented = "{\n \"signatures\": [\n  {\n   \"keyid\": \"k\",\n   \"sig\": \"ab\"\n  }\n ],\n \"signed\": {\n  \"a\": 1\n }\n}"
	if _, err := readForm([]byte(indented)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"new line at the end":       good + "\n",
		"more than one":             good + good,
		"a blank":                   strings.Replace(good, ":", ": ", 1),
		"indented by two":           strings.ReplaceAll(indented, "\n ", "\n  "),
		"lines of another system":   strings.ReplaceAll(indented, "\n", "\r\n"),
		"a byte order mark":         "\ufeff" + good,
		"keys not sorted":           `{"signed":{},"signatures":[]}`,
		"a key twice":               `{"signatures":[],"signed":{"a":1,"a":2}}`,
		"a key in capitals":         `{"Signatures":[],"signed":{}}`,
		"a field beside":            `{"more":1,"signatures":[],"signed":{}}`,
		"a field in the signature":  `{"signatures":[{"keyid":"k","more":1,"sig":"ab"}],"signed":{}}`,
		"no key id":                 `{"signatures":[{"keyid":"","sig":"ab"}],"signed":{}}`,
		"capitals in the signature": `{"signatures":[{"keyid":"k","sig":"AB"}],"signed":{}}`,
		"half a byte":               `{"signatures":[{"keyid":"k","sig":"abc"}],"signed":{}}`,
		"a signature that is none":  `{"signatures":["ab"],"signed":{}}`,
		"signatures that are none":  `{"signatures":{},"signed":{}}`,
		"nothing signed":            `{"signatures":[],"signed":[]}`,
		"null":                      `{"signatures":[],"signed":{"a":[{"b":null}]}}`,
		"all null":                  `null`,
		"no object":                 `[]`,
		"nothing":                   ``,
		"escapes that need not be":  strings.Replace(good, "<", `\u003c`, 1),
		"bytes that are no text":    strings.Replace(good, "é", "\xff", 1),
	} {
		if _, err := readForm([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

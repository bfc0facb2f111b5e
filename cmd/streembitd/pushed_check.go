// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// checkPushed judges a config that is to take the place of the running one: as streembitd run does, and that it does not change what only somebody at the device
// may change. The error names file and line.
func checkPushed(path string, old, text []byte) error {
	now, err := parseConfig(path, old)
	if err != nil {
		return fmt.Errorf("the config that the device has now: %w", err)
	}
	next, err := parseConfig(path, text)
	if err != nil {
		return atLine(path, text, err)
	}
	for _, k := range []struct {
		key      string
		was, new any
		why      string
	}{
		{"state", now.State, next.State, "keys and data lie there"},
		{"roles", now.Roles, next.Roles, "the fleet's log and the device's owner decide on roles"},
		{"tpm", now.TPM, next.TPM, "the device's key depends on it"},
		{"enroll", now.Enroll, next.Enroll, "it decides whose the device is"},
		{"direct.off", now.Direct.Off, next.Direct.Off, "nobody could push another config"},
		{"direct.reboot", now.Direct.Reboot, next.Direct.Reboot, "it names a program that the device runs"},
		{"outbox.receipts", now.Outbox.Receipts, next.Outbox.Receipts, "it names a file outside the state folder"},
	} {
		if !reflect.DeepEqual(k.was, k.new) {
			return atLine(path, text, fmt.Errorf("%s: no push can change it, since %s: edit the file on the device", k.key, k.why))
		}
	}
	return nil
}

// firstWord is the key with which the messages about a key that stands in no list begin.
var firstWord = regexp.MustCompile(`^(?:([a-z_]+)\.)?([a-z_]+)\b`)

// atLine puts FILE:LINE: before an error, if the text tells, unless it says the line itself.
func atLine(path string, text []byte, err error) error {
	line := 0
	var probe config
	perr := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&probe)
	if strict, ok := errors.AsType[*toml.StrictMissingError](perr); ok {
		line, _ = strict.Errors[0].Position()
	} else if decode, ok := errors.AsType[*toml.DecodeError](perr); ok {
		line, _ = decode.Position()
	} else if _, listed := errors.AsType[*faultyEntry](err); !listed {
		line = keyLine(text, err)
	}
	what := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "config "), path+":")
	if line == 0 {
		return errors.New(path + ":" + what)
	}
	return fmt.Errorf("%s:%d: %s", path, line, strings.TrimSpace(what))
}

func keyLine(text []byte, err error) int {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		m := firstWord.FindStringSubmatch(inner.Error())
		if m == nil {
			continue
		}
		all := lines(text)
		for _, k := range []entryKey{{m[1], -1, m[2]}, {"", 0, m[1]}, {"", 0, m[2]}} {
			if line := all[k]; line > 0 && (k.table != "" || k.key != "") {
				return line
			}
		}
		first := 0 // of a table as a whole: its first key
		for k, line := range all {
			if k.table == m[2] && m[1] == "" && (first == 0 || line < first) {
				first = line
			}
		}
		if first > 0 {
			return first
		}
	}
	return 0
}

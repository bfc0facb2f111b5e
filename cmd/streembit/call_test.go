// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/thing"
	"github.com/streembit/edge/transport"
)

// TestVerdict: the exit code of a group is that of its failures if they are alike.
func TestVerdict(t *testing.T) {
	away := fmt.Errorf("x: %w", transport.ErrUnreachable)
	no := fmt.Errorf("x: %w", &direct.Refusal{Reason: direct.NoRight})
	for _, c := range []struct {
		errs []error
		want cli.Code
	}{
		{[]error{nil, nil}, cli.OK}, {[]error{nil, away, away}, cli.Unreachable}, {[]error{no, nil}, cli.Refused}, {[]error{no, away}, cli.Failure},
		{[]error{&direct.Refusal{Reason: direct.BadArgument}}, cli.Misuse}, {[]error{&direct.Refusal{Reason: direct.Unknown}}, cli.Failure},
		{[]error{fmt.Errorf("x: %w: %w", direct.ErrLost, errors.New("cut"))}, cli.Unreachable},
	} {
		var all []*outcomeOf
		for _, err := range c.errs {
			all = append(all, &outcomeOf{grant: fleet.Grant{Name: "x"}, err: err})
		}
		if got := outcome().Code(verdict(all)); got != c.want {
			t.Errorf("%v ends with %d, want %d", c.errs, got, c.want)
		}
	}
}

// TestValueText: what a device says reaches a terminal harmless.
func TestValueText(t *testing.T) {
	for want, v := range map[string]any{"on": true, "21.5 Cel": 21.5, "5 Cel": uint64(5), `"\x1b[2J"`: "\x1b[2J", `"\n"=off a=1.5`: map[string]any{"a": 1.5, "\n": false}, "[1,\"x\"]": []any{1, "x"}} {
		if got := valueText(v, "Cel"); got != want && got != strings.TrimSuffix(want, " Cel") {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

// TestArgumentsShown: an action's arguments look as they are typed, those that must be there first.
func TestArgumentsShown(t *testing.T) {
	low, high := thing.Bounds(1, 9)
	in := &thing.Schema{Type: thing.Object, Required: []string{"value"}, Properties: map[string]thing.Schema{"value": {Type: thing.Boolean},
		"for": {Type: thing.Number, Unit: "s", Minimum: low, Maximum: high}, "as": {Type: thing.String, Enum: []any{"x", "y"}}, "note": {Type: thing.String}}}
	if got, want := arguments(in), "value=on|off [as=x|y] [for=1..9s] [note=STRING]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package sysfs_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/sysfs"
)

func TestParseNumber(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "-12": -12, "0.125000000": 0.125, "-0.5": -0.5, "999999999999999": 999999999999999} {
		if got, err := sysfs.ParseNumber(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-", "+1", "1e3", "0x1p-2", "inf", "NaN", "1_0", ".5", "5.", "1 2", "12 dB", "1000000000000000", "\x00", "--1"} {
		if got, err := sysfs.ParseNumber(text); !errors.Is(err, sysfs.ErrFormat) || got != 0 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestChosen(t *testing.T) {
	have := []string{"temp1", "in0"}
	for option, want := range map[string][]string{"": have, " ": have, "in0": {"in0"}, "in0, temp1": {"in0", "temp1"}, "in9": nil, "in0,": nil} {
		got, err := sysfs.Chosen(option, have)
		if !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q, %v", option, got, err)
		}
	}
}

func TestNames(t *testing.T) {
	n := make(sysfs.Names)
	for _, want := range []string{"a", "a.2", "a.3"} {
		if got := n.Unique("a"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := n.Unique("a.2"); got != "a.2.2" {
		t.Errorf("got %q", got)
	}
}

// The error says what there is, so that the config can be mended.
func TestOpenSays(t *testing.T) {
	files := fstest.MapFS{
		"sys/class/x/x0/name": {Data: []byte("one\n")}, "sys/class/x/x1/name": {Data: []byte("two\n")}, "sys/class/x/other/name": {Data: []byte("three\n")},
	}
	_, err := sysfs.Open(files, "sys/class/x", "x", "")
	if err == nil || !strings.Contains(err.Error(), `"one" (x0), "two" (x1)`) || strings.Contains(err.Error(), "three") {
		t.Errorf("several: %v", err)
	}
	if _, err = sysfs.Open(files, "sys/class/x", "x", "four"); !errors.Is(err, hal.ErrNoBus) || !strings.Contains(err.Error(), `"two" (x1)`) {
		t.Errorf("none: %v", err)
	}
	for _, want := range []string{"two", "x1"} {
		if d, err := sysfs.Open(files, "sys/class/x", "x", want); err != nil || d.Name != "two" {
			t.Errorf("%s: %+v, %v", want, d, err)
		}
	}
}

// Whatever a label holds, the quantity's name that is made of it is valid.
func FuzzSegment(f *testing.F) {
	for _, label := range []string{"Package id 0", "Vcc +3.3V", "", "...", "Straße\x00", strings.Repeat("x", 100)} {
		f.Add(label)
	}
	f.Fuzz(func(t *testing.T, label string) {
		s := sysfs.Segment(label, "temp1")
		r := edge.Reading{Sensor: "s", Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature." + s, Unit: "Cel"}}}
		if err := r.Validate(); err != nil || s == "" {
			t.Errorf("%q makes %q: %v", label, s, err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package template_test

import (
	_ "embed"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/template"
)

//go:embed testdata/recording.txt
var recording []byte

func TestContract(t *testing.T) {
	ops, err := sensorstest.ParseOps(recording)
	if err != nil {
		t.Fatal(err)
	}
	sensorstest.Run(t, sensorstest.Case{
		Driver: template.Driver,
		Board:  func() *hal.Board { return sensorstest.Playback(ops) },
		Want:   []edge.Quantity{sensors.Temperature},
	})
}

// Values from the data sheet, and the ends of the range.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		register string
		want     float64
		cause    error
	}{
		{"c194", 25.25, nil}, {"0000", 0, nil}, {"1fff", -0.0625, nil}, {"07d0", 125, nil}, {"1d80", -40, nil},
		{"07d1", 0, sensors.ErrRange}, {"1d7f", 0, sensors.ErrRange},
	} {
		synctest.Test(t, func(t *testing.T) {
			ops, err := sensorstest.ParseOps([]byte("18 06 0054\n18 07 0400\n18 010000 -\n18 010100 -\n18 05 " + tc.register + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := template.Driver.Connect(t.Context(), sensorstest.Playback(ops), hal.Request{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			samples, err := s.Read(t.Context())
			if !errors.Is(err, tc.cause) || err == nil && samples[0].Value != tc.want {
				t.Errorf("%s: %v, %v; want %v, %v", tc.register, samples, err, tc.want, tc.cause)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package expander_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/expander"
)

// FuzzLevels: whatever the outside pulls low and whatever is switched on, each quantity is what its line's bit says (oracle: plain arithmetic on
// wired-AND levels), or Read refuses. A line shorted against its output may be refused, never misread.
func FuzzLevels(f *testing.F) {
	f.Add(byte(0xff), byte(0), byte(0b0010_0001), false, true)
	f.Add(byte(0b1010_0101), byte(0xff), byte(0), true, false)
	f.Fuzz(func(t *testing.T, outside, on, outputs byte, high, pca bool) {
		d := expander.PCF8574
		if pca {
			d = expander.PCA9554
		}
		var list []string
		for n := range 8 {
			if outputs>>n&1 == 1 {
				list = append(list, fmt.Sprint(n))
			}
		}
		opts := map[string]any{"outputs": strings.Join(list, ","), "active": map[bool]string{false: "low", true: "high"}[high]}
		r := newRig(t, d)
		a := r.open(t, opts)
		defer a.Close()
		for n := range 8 {
			if outputs>>n&1 == 1 {
				set(t, a, n, float64(on>>n&1))
			}
		}
		r.outside = outside
		driven := byte(0xff)
		for n := range 8 {
			if outputs>>n&1 == 1 && (on>>n&1 == 1) != high {
				driven &^= 1 << n
			}
		}
		levels := outside & driven
		samples, err := a.Read(t.Context())
		if err != nil {
			if levels != 0 && levels != 0xff && outside&outputs == outputs {
				t.Errorf("lines %08b, outputs %08b are refused: %v", levels, outputs, err)
			}
			return
		}
		for n, s := range samples {
			q := sensors.Contact
			if outputs>>n&1 == 1 {
				q = sensors.SwitchOn
			}
			want := (levels>>n&1 == 1) == high
			if s.Name != numbered(q, n).Name || (s.Value == 1) != want {
				t.Errorf("lines %08b: line %d is %s = %v, want %t", levels, n, s.Name, s.Value, want)
			}
		}
	})
}

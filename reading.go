// SPDX-License-Identifier: Apache-2.0

// Package edge holds what travels through Streembit edge: a Quantity, a Sample of it, and the Reading that a
// device made of the sample. SenML (RFC 8428) is the data model; senml_cbor.go and senml_json.go are its two forms.
//
// The package imports nothing of ours, so everything else may import it.
package edge

import "time"

// Kind says which SenML value field a quantity uses.
type Kind uint8

// The four kinds of value. A Quantity has exactly one.
const (
	Gauge   Kind = iota // a number that moves up and down: SenML "v"
	Counter             // a sum that only grows until the device restarts: SenML "s"
	State               // on or off, 1 or 0: SenML "vb"
	Text                // words: SenML "vs"
)

// Quantity is what a sensor measures: a name, its SenML primary unit (RFC 8428 §12.1; "" where none applies)
// and its kind. The unit belongs to the quantity, so a sample cannot carry a wrong one.
type Quantity struct {
	Name string // [a-z0-9][a-z0-9._-]{0,62}, for example "temperature"
	Unit string // for example "Cel"
	Kind Kind
}

// Sample is one value of one quantity. Value is in the quantity's unit (State: 0 or 1); Text is used by kind Text only.
type Sample struct {
	Quantity
	Value float64
	Text  string
}

// Reading is one sample that one sensor of a device gave at one time. Who the device is stands in the segment
// that carries the reading (package journal).
type Reading struct {
	Sensor string // the instance's name in the device's config, for example "bme280-0"
	Sample
	At Instant
}

// Name returns the SenML name "<sensor>/<quantity>".
func (r Reading) Name() string { return r.Sensor + "/" + r.Quantity.Name }

// Instant is a point in time as a board without a clock battery knows it. Order never comes from it, only from
// sequence numbers.
type Instant struct {
	Mono int64 // milliseconds since the device booted
	Wall int64 // milliseconds since 1970 UTC; 0 = the device's clock was not synchronised
}

// Synced reports whether the wall time is known.
func (i Instant) Synced() bool { return i.Wall != 0 }

// Time returns the wall time in UTC, or the zero time when it is not known.
func (i Instant) Time() time.Time {
	if i.Wall == 0 {
		return time.Time{}
	}
	return time.UnixMilli(i.Wall).UTC()
}

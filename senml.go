// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Limits of one SenML pack. They bound the memory that a hostile pack can claim.
const (
	MaxPackReadings = 65536 // readings in one pack
	MaxNameLength   = 63    // bytes of a sensor's or a quantity's name
	MaxTextLength   = 4096  // bytes of the value of a quantity of kind Text
)

// ErrBadReading is wrapped by Reading.Validate and by the encoders: the reading breaks a rule of the data model.
var ErrBadReading = errors.New("invalid reading")

// ErrBadSenML is wrapped by the decoders: the bytes are not a pack as the encoders write it.
var ErrBadSenML = errors.New("invalid SenML pack")

// Validate checks what every encoder demands: names of the form [a-z0-9][a-z0-9._-]{0,62}, a SenML primary unit or none,
// a finite value (0 or 1 for kind State), valid UTF-8 for kind Text and no text for any other, times that are not negative.
// A device checks each reading when it is taken, so that one bad value cannot spoil the pack it would travel in.
// The error wraps ErrBadReading.
func (r Reading) Validate() error {
	switch {
	case !validName(r.Sensor):
		return badReading("sensor name %q: use 1 to %d of a-z 0-9 . _ - and begin with a letter or digit", r.Sensor, MaxNameLength)
	case !validName(r.Quantity.Name):
		return badReading("quantity name %q of sensor %s: use 1 to %d of a-z 0-9 . _ - and begin with a letter or digit", r.Quantity.Name, r.Sensor, MaxNameLength)
	case r.Unit != "" && !KnownUnit(r.Unit):
		return badReading("%s: unit %q is not a SenML primary unit: convert to one (RFC 8428 §12.1)", r.Name(), r.Unit)
	case r.At.Mono < 0 || r.At.Wall < 0:
		return badReading("%s: negative time %d ms since boot, %d ms since 1970", r.Name(), r.At.Mono, r.At.Wall)
	}
	return r.validateValue()
}

func (r Reading) validateValue() error {
	switch r.Kind {
	case Text:
		if len(r.Text) > MaxTextLength || !utf8.ValidString(r.Text) {
			return badReading("%s: text must be UTF-8 of at most %d bytes (it has %d)", r.Name(), MaxTextLength, len(r.Text))
		}
		return nil
	case State:
		if r.Value != 0 && r.Value != 1 {
			return badReading("%s: state must be 0 or 1, not %v", r.Name(), r.Value)
		}
	case Gauge, Counter:
		if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
			return badReading("%s: value %v is not a number: report a sensor fault instead", r.Name(), r.Value)
		}
	default:
		return badReading("%s: kind %d is unknown", r.Name(), r.Kind)
	}
	if r.Text != "" {
		return badReading("%s: text %.20q on a quantity that is not of kind Text", r.Name(), r.Text)
	}
	return nil
}

func badReading(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrBadReading)...)
}

func badSenML(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrBadSenML)...)
}

// validName reports whether s is one segment of a SenML name: [a-z0-9][a-z0-9._-]{0,62}.
func validName[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > MaxNameLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// splitName takes "<sensor>/<quantity>" apart and checks both halves.
func splitName[T string | []byte](name T) (sensor, quantity T, ok bool) {
	for i := range len(name) {
		if name[i] == '/' {
			sensor, quantity = name[:i], name[i+1:]
			return sensor, quantity, validName(sensor) && validName(quantity)
		}
	}
	return sensor, quantity, false
}

func checkCount(n int) error {
	if n == 0 {
		return badReading("no readings to encode")
	}
	if n > MaxPackReadings {
		return badReading("%d readings in one pack: the most is %d, so split them", n, MaxPackReadings)
	}
	return nil
}

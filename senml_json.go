// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// minWall is the first time that SenML takes as absolute: smaller ones are relative to now (RFC 8428 §4.5.3).
const minWall = (1 << 28) * millis

// jsonRecord is one resolved SenML record (RFC 8428 §4.6). The value's label tells the kind. Numbers stay as they were
// written until they are parsed exactly.
type jsonRecord struct {
	Name  string       `json:"n"`
	Unit  string       `json:"u,omitempty"`
	Value *json.Number `json:"v,omitempty"`
	Text  *string      `json:"vs,omitempty"`
	State *bool        `json:"vb,omitempty"`
	Sum   *json.Number `json:"s,omitempty"`
	Time  *json.Number `json:"t,omitempty"`
}

// MarshalSenMLJSON writes the readings as a pack of resolved SenML records in JSON (RFC 8428 §4.6, §5), one record a line:
// the full name "<device>/<sensor>/<quantity>" and the absolute time t in seconds, exact to the millisecond. A reading whose wall time is not known
// carries no t. The time since boot is not part of this form, which is for people and other programs, not for signing.
// An error wraps ErrBadReading and names the reading's index.
func MarshalSenMLJSON(device ID, readings []Reading) ([]byte, error) {
	if err := checkCount(len(readings)); err != nil {
		return nil, fmt.Errorf("edge: encoding SenML JSON: %w", err)
	}
	prefix := device.String() + "/"
	var out bytes.Buffer
	for i, r := range readings {
		record, err := toJSON(prefix, r)
		if err != nil {
			return nil, fmt.Errorf("edge: encoding SenML JSON: reading %d: %w", i, err)
		}
		out.WriteString(",\n")
		out.Write(record)
	}
	b := append(out.Bytes(), ']', '\n')
	b[0] = '['
	return b, nil
}

// toJSON writes one record without HTML escapes, which people should not have to read.
func toJSON(prefix string, r Reading) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	record := jsonRecord{Name: prefix + r.Name(), Unit: r.Unit}
	number := json.Number(formatFloat(r.Value))
	switch r.Kind {
	case Gauge:
		record.Value = &number
	case Counter:
		record.Sum = &number
	case State:
		on := r.Value == 1
		record.State = &on
	case Text:
		record.Text = &r.Text
	}
	if r.At.Synced() {
		if r.At.Wall < minWall {
			return nil, badReading("%s: wall time %d ms is before July 1978, which SenML cannot say", r.Name(), r.At.Wall)
		}
		t := json.Number(formatMillis(r.At.Wall))
		record.Time = &t
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(record); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// formatFloat writes the shortest decimal that reads back as v, with an exponent only for very large and very small numbers.
func formatFloat(v float64) string {
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// formatMillis writes milliseconds as seconds with three decimals.
func formatMillis(ms int64) string { return fmt.Sprintf("%d.%03d", ms/millis, ms%millis) }

// UnmarshalSenMLJSON reads what MarshalSenMLJSON wrote and returns the device and its readings. It demands resolved records
// (no base fields) of a single device, with t in plain decimal seconds of at most three decimals. At.Mono is 0, since this form does
// not carry it; without t the reading is unsynced. An error wraps ErrBadSenML.
func UnmarshalSenMLJSON(data []byte) (ID, []Reading, error) {
	records, err := parseRecords(data)
	if err != nil {
		return ID{}, nil, fmt.Errorf("edge: decoding SenML JSON: %w", err)
	}
	var device ID
	readings := make([]Reading, len(records))
	for i, record := range records {
		id, r, err := record.reading()
		if err == nil && i > 0 && id != device {
			err = badSenML("device %s after device %s: one pack is of one device", id, device)
		}
		if err != nil {
			return ID{}, nil, fmt.Errorf("edge: decoding SenML JSON: record %d: %w", i, err)
		}
		device, readings[i] = id, r
	}
	return device, readings, nil
}

func parseRecords(data []byte) ([]jsonRecord, error) {
	if !utf8.Valid(data) { // encoding/json would replace the bad bytes in silence
		return nil, badSenML("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var records []jsonRecord
	if err := dec.Decode(&records); err != nil {
		return nil, badSenML("%w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, badSenML("something follows the pack")
	}
	if len(records) == 0 || len(records) > MaxPackReadings {
		return nil, badSenML("%d records: a pack has 1 to %d", len(records), MaxPackReadings)
	}
	return records, nil
}

func (j jsonRecord) reading() (ID, Reading, error) {
	deviceText, name, _ := strings.Cut(j.Name, "/")
	sensor, quantity, ok := splitName(name)
	if !ok {
		return ID{}, Reading{}, badSenML("name %.200q is not <device>/<sensor>/<quantity>", j.Name)
	}
	id, err := ParseID(deviceText)
	if err != nil {
		return ID{}, Reading{}, badSenML("name %.200q: %w", j.Name, err)
	}
	r := Reading{Sensor: sensor, Sample: Sample{Quantity: Quantity{Name: quantity, Unit: j.Unit}}}
	if err := j.value(&r); err != nil {
		return ID{}, Reading{}, err
	}
	if j.Time != nil {
		if r.At.Wall, err = parseMillis(string(*j.Time)); err != nil {
			return ID{}, Reading{}, err
		}
	}
	if err := r.Validate(); err != nil {
		return ID{}, Reading{}, badSenML("%w", err)
	}
	return id, r, nil
}

// value takes exactly one of v, vs, vb, s.
func (j jsonRecord) value(r *Reading) (err error) {
	labels := 0
	number := func(n *json.Number, kind Kind) {
		if n != nil {
			labels++
			r.Kind = kind
			r.Value, err = n.Float64()
		}
	}
	number(j.Value, Gauge)
	number(j.Sum, Counter)
	if j.Text != nil {
		labels++
		r.Kind, r.Text = Text, *j.Text
	}
	if j.State != nil {
		labels++
		r.Kind = State
		if *j.State {
			r.Value = 1
		}
	}
	if labels != 1 {
		return badSenML("%d values: a record has exactly one of v, vs, vb, s", labels)
	}
	if err != nil {
		return badSenML("%w", err)
	}
	return nil
}

// parseMillis reads seconds in plain decimal with at most three decimals, exactly.
func parseMillis(s string) (int64, error) {
	whole, frac, _ := strings.Cut(s, ".")
	ms, err := strconv.ParseInt(whole+(frac + "000")[:3], 10, 64)
	if err != nil || len(frac) > 3 || ms < minWall {
		return 0, badSenML("time %.40q is not absolute seconds in plain decimal with at most three decimals", s)
	}
	return ms, nil
}

// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/streembit/edge"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	testDevice = edge.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 31: 0xff}
	testRef    = edge.Instant{Mono: 600_000, Wall: 1_764_000_000_123}
)

func reading(sensor, quantity, unit string, kind edge.Kind, value float64, text string, ago int64) edge.Reading {
	return edge.Reading{
		Sensor: sensor,
		Sample: edge.Sample{Quantity: edge.Quantity{Name: quantity, Unit: unit, Kind: kind}, Value: value, Text: text},
		At:     edge.Instant{Mono: testRef.Mono - ago, Wall: testRef.Wall - ago},
	}
}

func testReadings() []edge.Reading {
	return []edge.Reading{
		reading("bme280-0", "temperature", "Cel", edge.Gauge, 25.08, "", 9_999),
		reading("bme280-0", "humidity", "%RH", edge.Gauge, 41.5, "", 9_000),
		reading("bme280-0", "pressure", "Pa", edge.Gauge, 100653.25, "", 1),
		reading("meter", "energy", "J", edge.Counter, 3.6e6, "", 1_000),
		reading("door", "contact", "", edge.State, 1, "", 10),
		reading("door", "contact", "", edge.State, 0, "", 0),
		reading("host", "kernel", "", edge.Text, 0, "6.12 <µ>", 0),
		reading("x", "tiny", "/", edge.Gauge, 5e-324, "", 0),
		reading("x", "minus-zero", "/", edge.Gauge, math.Copysign(0, -1), "", 0),
		reading("x", "half.subnormal", "/", edge.Gauge, 1.0/(1<<24), "", 600_000),
		reading("x", "huge", "/", edge.Gauge, -math.MaxFloat64, "", 599_999),
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to write it anew):\n got %s\nwant %s", path, got, want)
	}
}

func TestSenMLGoldenAndRoundTrip(t *testing.T) {
	data, err := edge.MarshalSenML(testDevice, testRef.Mono, testReadings())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pack.cbor.hex", []byte(hex.EncodeToString(data)+"\n"))
	if want := libraryEncode(t, testDevice, testRef.Mono, testReadings()); !bytes.Equal(data, want) {
		t.Errorf("the general encoder differs:\n got %x\nwant %x", data, want)
	}
	got, err := edge.UnmarshalSenML(data, testDevice, testRef)
	if err != nil {
		t.Fatal(err)
	}
	if !equalReadings(got, testReadings()) {
		t.Errorf("got %+v\nwant %+v", got, testReadings())
	}
	got, err = edge.UnmarshalSenML(data, testDevice, edge.Instant{Mono: testRef.Mono})
	if err != nil || got[0].At != (edge.Instant{Mono: 590_001}) {
		t.Errorf("unsynced: %+v, %v", got[0].At, err)
	}
}

// equalReadings compares with the sign of zero.
func equalReadings(a, b []edge.Reading) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		y := b[i]
		if math.Float64bits(x.Value) != math.Float64bits(y.Value) {
			return false
		}
		x.Value, y.Value = 0, 0
		if x != y {
			return false
		}
	}
	return true
}

func TestSenMLJSONGoldenAndRoundTrip(t *testing.T) {
	readings := testReadings()
	readings[1].At.Wall = 0
	data, err := edge.MarshalSenMLJSON(testDevice, readings)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pack.senml.json", data)
	device, got, err := edge.UnmarshalSenMLJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range readings {
		readings[i].At.Mono = 0
	}
	if device != testDevice || !equalReadings(got, readings) {
		t.Errorf("got %s %+v\nwant %s %+v", device, got, testDevice, readings)
	}
}

func TestSenMLRefusesBadReadings(t *testing.T) {
	edit := func(f func(*edge.Reading)) []edge.Reading {
		r := testReadings()
		f(&r[2])
		return r
	}
	for name, tc := range map[string]struct {
		readings []edge.Reading
		says     string
	}{
		"none":          {nil, "no readings"},
		"too many":      {make([]edge.Reading, edge.MaxPackReadings+1), "split"},
		"NaN":           {edit(func(r *edge.Reading) { r.Value = math.NaN() }), "reading 2: bme280-0/pressure: value NaN"},
		"Inf":           {edit(func(r *edge.Reading) { r.Value = math.Inf(-1) }), "-Inf"},
		"sensor name":   {edit(func(r *edge.Reading) { r.Sensor = "Bme" }), `sensor name "Bme"`},
		"empty name":    {edit(func(r *edge.Reading) { r.Sensor = "" }), "sensor name"},
		"slash":         {edit(func(r *edge.Reading) { r.Quantity.Name = "a/b" }), `"a/b"`},
		"long name":     {edit(func(r *edge.Reading) { r.Quantity.Name = strings.Repeat("a", 64) }), "quantity name"},
		"first letter":  {edit(func(r *edge.Reading) { r.Quantity.Name = "-a" }), "quantity name"},
		"unit":          {edit(func(r *edge.Reading) { r.Unit = "hPa" }), `unit "hPa"`},
		"kind":          {edit(func(r *edge.Reading) { r.Kind = 9 }), "kind 9"},
		"half a state":  {edit(func(r *edge.Reading) { r.Kind, r.Value = edge.State, 0.5 }), "state must be 0 or 1"},
		"text on gauge": {edit(func(r *edge.Reading) { r.Text = "x" }), "not of kind Text"},
		"long text":     {edit(func(r *edge.Reading) { r.Kind, r.Text = edge.Text, strings.Repeat("x", 4097) }), "4096"},
		"not UTF-8":     {edit(func(r *edge.Reading) { r.Kind, r.Text = edge.Text, "\xff" }), "UTF-8"},
		"negative mono": {edit(func(r *edge.Reading) { r.At.Mono = -1 }), "negative time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := edge.MarshalSenML(testDevice, testRef.Mono, tc.readings)
			if !errors.Is(err, edge.ErrBadReading) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("CBOR: %v; want it to say %q", err, tc.says)
			}
			_, err = edge.MarshalSenMLJSON(testDevice, tc.readings)
			if !errors.Is(err, edge.ErrBadReading) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("JSON: %v; want it to say %q", err, tc.says)
			}
		})
	}
	if _, err := edge.MarshalSenML(testDevice, testRef.Mono-1, testReadings()); !errors.Is(err, edge.ErrBadReading) {
		t.Errorf("a reading after the pack was closed: %v", err)
	}
	early := edit(func(r *edge.Reading) { r.At.Wall = 1 })
	if _, err := edge.MarshalSenMLJSON(testDevice, early); !errors.Is(err, edge.ErrBadReading) {
		t.Errorf("a wall time that SenML takes as relative: %v", err)
	}
}

func TestSenMLRefusesBadPacks(t *testing.T) {
	base := "2178" + "35" + hex.EncodeToString([]byte(testDevice.String()+"/"))
	record := "63612f62" // the name a/b
	for name, tc := range map[string]struct{ hex, says string }{
		"good":              {"81a300" + record + "04f5" + base, ""},
		"empty":             {"", "major type 4"},
		"no records":        {"80", "0 records"},
		"too many":          {"9a00010001", "65537 records"},
		"more than bytes":   {"9904d2", "announced"},
		"long count":        {"9801a300" + record + "04f5" + base, "shortest"},
		"indefinite":        {"9fa300" + record + "04f5" + base + "ff", "indefinite"},
		"foreign base":      {"81a300" + record + "04f52178" + "35" + strings.Repeat("41", 53), "another device"},
		"no base":           {"81a200" + record + "04f50000", "base name"},
		"unknown label":     {"81a400" + record + "04f50700" + base, "base name"},
		"base first":        {"81a3" + base + "00" + record + "04f5", "no name"},
		"two values":        {"81a400" + record + "02f9000004f5" + base, "base name"},
		"no value":          {"81a200" + record + base, "no value"},
		"map too big":       {"81a400" + record + "04f5" + base, "4 entries"},
		"long float":        {"81a300" + record + "02fa3f800000" + base, "shortest float"},
		"integer value":     {"81a300" + record + "0201" + base, "shortest float"},
		"NaN":               {"81a300" + record + "02f97e00" + base, "finite"},
		"Inf":               {"81a300" + record + "02f97c00" + base, "finite"},
		"null state":        {"81a300" + record + "04f6" + base, "neither"},
		"unit":              {"81a400" + record + "0163685061" + "04f5" + base, `unit "hPa"`},
		"name":              {"81a300" + "63412f62" + "04f5" + base, "<sensor>/<quantity>"},
		"float time":        {"81a400" + record + "04f506f9bc00" + base, "time"},
		"positive time":     {"81a400" + record + "04f50601" + base, "time"},
		"zero time":         {"81a400" + record + "04f50600" + base, "time"},
		"whole as fraction": {"81a400" + record + "04f506c482223903e7" + base, "whole seconds"},
		"other exponent":    {"81a400" + record + "04f506c4822120" + base, "milliseconds"},
		"before boot":       {"81a400" + record + "04f506390258" + base, "after boot"},
		"huge time":         {"81a400" + record + "04f5063bffffffffffffffff" + base, "time"},
		"huge fraction":     {"81a400" + record + "04f506c482223bffffffffffffffff" + base, "time"},
		"trailing":          {"81a300" + record + "04f5" + base + "00", "1 bytes after"},
		"bad UTF-8":         {"81a300" + record + "0361ff" + base, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			_, err = edge.UnmarshalSenML(data, testDevice, testRef)
			if tc.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, edge.ErrBadSenML) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want it to say %q", err, tc.says)
			}
		})
	}
}

// Every cut and every flipped bit is either refused or decodes to something that encodes to the same bytes.
func TestSenMLDamage(t *testing.T) {
	data, err := edge.MarshalSenML(testDevice, testRef.Mono, testReadings())
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		if _, err := edge.UnmarshalSenML(data[:i], testDevice, testRef); !errors.Is(err, edge.ErrBadSenML) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1 << bit
			checkCBOR(t, damaged)
		}
	}
}

func TestSenMLJSONRefuses(t *testing.T) {
	n := `"n":"` + testDevice.String() + `/a/b"`
	for name, tc := range map[string]struct{ json, says string }{
		"good":          {`[{` + n + `,"v":1,"t":1700000000.5}]`, ""},
		"not JSON":      {`[{`, "EOF"},
		"empty":         {`[]`, "0 records"},
		"trailing":      {`[{` + n + `,"v":1}] 1`, "follows"},
		"unknown":       {`[{` + n + `,"v":1,"ut":5}]`, "unknown field"},
		"base":          {`[{"bn":"x",` + n + `,"v":1}]`, "unknown field"},
		"two values":    {`[{` + n + `,"v":1,"s":1}]`, "2 values"},
		"no value":      {`[{` + n + `}]`, "0 values"},
		"out of range":  {`[{` + n + `,"v":1e999}]`, "range"},
		"relative time": {`[{` + n + `,"v":1,"t":-5}]`, "absolute"},
		"exponent time": {`[{` + n + `,"v":1,"t":1.7e9}]`, "absolute"},
		"microseconds":  {`[{` + n + `,"v":1,"t":1700000000.0001}]`, "absolute"},
		"unit":          {`[{` + n + `,"u":"ppm","v":1}]`, `"ppm"`},
		"name":          {`[{"n":"a/b","v":1}]`, "<device>"},
		"device":        {`[{"n":"a/b/c","v":1}]`, "member id"},
		"two devices":   {`[{` + n + `,"v":1},{"n":"` + edge.ID{}.String() + `/a/b","v":1}]`, "one device"},
		"not UTF-8":     {"[{" + n + ",\"vs\":\"\xff\"}]", "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, got, err := edge.UnmarshalSenMLJSON([]byte(tc.json))
			if tc.says == "" {
				if err != nil || got[0].At.Wall != 1_700_000_000_500 {
					t.Fatal(got, err)
				}
				return
			}
			if !errors.Is(err, edge.ErrBadSenML) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want it to say %q", err, tc.says)
			}
		})
	}
}

func TestKnownUnit(t *testing.T) {
	for u, want := range map[string]bool{"Cel": true, "%RH": true, "Pa": true, "B": true, "count": true, "/": true, "VAs": true, "": false, "hPa": false, "cel": false, "ppm": false} {
		if edge.KnownUnit(u) != want {
			t.Errorf("KnownUnit(%q) = %v", u, !want)
		}
	}
}

func TestIDText(t *testing.T) {
	id, err := edge.ParseID(testDevice.String())
	if err != nil || !reflect.DeepEqual(id, testDevice) {
		t.Fatal(id, err)
	}
}

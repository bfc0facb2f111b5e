// SPDX-License-Identifier: Apache-2.0

package thing_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
	"github.com/streembit/edge/thing"
)

func key(b byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
}

var switchOn = sensors.SwitchOn

// board is a device with a sensor of every driver that there is, and actions of every kind.
func board() *thing.Description {
	low, high := thing.Bounds(1, 1000)
	dev := thing.Device{ID: key(1).ID(), Title: "pi-1", Board: "a board", Program: "1.2.3", Labels: "rack=4",
		Actions: map[string]thing.Action{
			"logs": {Title: "collect logs", Safe: true, Data: "application/jsonl", Input: &thing.Schema{Type: thing.Object,
				Properties: map[string]thing.Schema{"lines": {Type: thing.Integer, Minimum: low, Maximum: high, Default: 100}}}},
			"reboot": {Title: "reboot", Signed: true},
			"read": {Safe: true, Input: &thing.Schema{Type: thing.Object, Required: []string{"sensor"}, Properties: map[string]thing.Schema{
				"sensor": {Type: thing.String, Enum: []any{"relay", "bme280"}}}}, Output: &thing.Schema{Type: thing.Object}},
		},
		Events: map[string]thing.Event{"alarm": {Title: "alarm"}, "sensor-fault": {Title: "a sensor fails", Streams: true, Data: &thing.Schema{Type: thing.Object,
			Properties: map[string]thing.Schema{"sensor": {Type: thing.String}}}}},
		Config: map[string]thing.Schema{"labels": {Type: thing.String}}}
	for _, d := range all.Drivers() {
		dev.Sensors = append(dev.Sensors, thing.Sensor{Name: d.Name, Doc: d.Doc, Stream: "main", Measures: d.Measures, Outputs: d.Actions, Fastest: d.Fastest})
	}
	d := thing.Build(dev)
	d.NextVersion(6)
	return d
}

// w3cSchema finds the JSON schema of TD 1.1, which is not part of this repository.
func w3cSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	path := os.Getenv("STREEMBIT_TD_SCHEMA")
	if path == "" {
		path = filepath.Join("..", "..", "shared", "data", "td-1.1.schema.json")
	}
	f, err := os.Open(path)
	if err != nil {
		const loud = "NOT VALIDATED: the W3C schema of TD 1.1 is not there (%v): put it there, or name it in $STREEMBIT_TD_SCHEMA"
		if os.Getenv("STREEMBIT_TD_SCHEMA") != "" {
			t.Fatalf(loud, err)
		}
		t.Skipf(loud, err) // the file is the W3C's and no part of this repository, so its absence fails nothing
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("td.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("td.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestDescription_W3CSchema holds a description with every driver against the schema of the W3C, and sees that the schema would notice.
func TestDescription_W3CSchema(t *testing.T) {
	s := w3cSchema(t)
	text, err := board().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, s, text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, spoil := range []string{`"op":["readproperty"`, `"scheme":"auto"`, `/td/v1.1"`, `"type":"number"`, `"instance":"7"`, `"op":["subscribeevent"`} {
		bad := bytes.Replace(text, []byte(spoil), []byte(strings.NewReplacer("readproperty", "look", "subscribeevent", "listen", "auto", "none-such", "v1.1", "v7", "number", "figure", `"7"`, "7").Replace(spoil)), 1)
		if bytes.Equal(bad, text) {
			t.Errorf("%s is not in the description", spoil)
		}
		if validate(t, s, bad) == nil {
			t.Errorf("the schema allows %s spoilt", spoil)
		}
	}
}

func TestDescription_RoundTrip(t *testing.T) {
	d := board()
	text, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := thing.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Encode()
	if err != nil || !bytes.Equal(text, second) {
		t.Fatalf("%v\n%s\n%s", err, text, second)
	}
	if id, err := again.Device(); err != nil || id != key(1).ID() || again.Version.Number() != 7 {
		t.Errorf("%v %v %v", id, again.Version, err)
	}
	p := again.Properties["gpio-out/switch"]
	if p.Type != thing.Boolean || p.ReadOnly || p.Stream != "main" {
		t.Errorf("output: %+v", p)
	}
	if p := again.Properties["bme280/temperature"]; p.Unit != "Cel" || !p.ReadOnly {
		t.Errorf("reading: %+v", p)
	}
	if p := again.Properties["bme280/interval"]; *p.Minimum <= 0 || *p.Maximum != 86400 || p.ReadOnly {
		t.Errorf("interval: %+v", p)
	}
}

// TestParse_Refused: what another device may put into its description and nobody could show or ask for.
func TestParse_Refused(t *testing.T) {
	good, err := board().Encode()
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat(`{"type":"object","properties":{"x":`, 4) + "{}" + strings.Repeat("}}", 4)
	for name, c := range map[string]struct{ old, to string }{
		"other context":        {thing.Context, "https://example.com/td"},
		"foreign id":           {`"id":"streembit:12D3`, `"id":"streembit:99D3`},
		"no scheme":            {`"id":"streembit:`, `"id":"urn:x:`},
		"version":              {`"instance":"7"`, `"instance":"07"`},
		"no version":           {`"instance":"7"`, `"instance":"0"`},
		"terminal codes":       {`"title":"pi-1"`, `"title":"\u001b[2J"`},
		"long title":           {`"title":"pi-1"`, `"title":"` + strings.Repeat("x", 600) + `"`},
		"unknown type":         {`"type":"number"`, `"type":"figure"`},
		"safe and destructive": {`"safe":false,"idempotent":false,"sb:signed":true`, `"safe":true,"idempotent":false,"sb:signed":true`},
		"deep":                 {`"output":{"type":"object"}`, `"output":` + deep},
		"name":                 {`"reboot":`, `"re\u0007boot":`},
	} {
		bad := strings.Replace(string(good), c.old, c.to, 1)
		if bad == string(good) {
			t.Errorf("%s: %q is not in the description", name, c.old)
		}
		if _, err := thing.Parse([]byte(bad)); !errors.Is(err, thing.ErrBadDescription) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := thing.Parse(make([]byte, thing.MaxSize+1)); !errors.Is(err, thing.ErrBadDescription) {
		t.Errorf("oversize: %v", err)
	}
}

func TestSigned(t *testing.T) {
	d := board()
	record, err := thing.Sign(key(1), d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := thing.OpenSigned(key(1).ID(), record); err != nil || got.Version.Number() != 7 {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := thing.OpenSigned(key(2).ID(), record); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("signed by another: %v", err)
	}
	if _, err := thing.Sign(key(2), d); !errors.Is(err, thing.ErrBadDescription) {
		t.Errorf("signing for another: %v", err)
	}
	text, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := journal.SignRecord(key(2), thing.TypeRecord, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thing.OpenSigned(key(2).ID(), foreign); !errors.Is(err, thing.ErrBadDescription) {
		t.Errorf("the description of another, signed: %v", err)
	}
	other, err := journal.SignRecord(key(1), journal.TypeState, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thing.OpenSigned(key(1).ID(), other); err == nil {
		t.Error("another kind of record was taken")
	}
	for i := 0; i < len(record); i++ {
		if i == 100 { // the signature covers all; that of some is enough
			i = len(record) - 100
		}
		bad := bytes.Clone(record)
		bad[i] ^= 1
		if _, err := thing.OpenSigned(key(1).ID(), bad); err == nil {
			t.Fatalf("byte %d changed, and opened", i)
		}
	}
}

// TestArguments: what a person types, and what is said of what cannot be meant.
func TestArguments(t *testing.T) {
	d := board()
	set, logs, read := d.Actions["gpio-out/switch"].Input, d.Actions["logs"].Input, d.Actions["read"].Input
	for _, c := range []struct {
		in    *thing.Schema
		words string
		want  string // JSON, or an error
	}{
		{set, "value=on for=5s", `{"for":5,"value":true}`},
		{set, "value=0 for=1m30s", `{"for":90,"value":false}`},
		{set, "value=off", `{"value":false}`},
		{logs, "lines=10", `{"lines":10}`},
		{logs, "", `{}`},
		{read, "sensor=relay", `{"sensor":"relay"}`},
		{set, "value=5", `value is "5": want on or off`},
		{set, "value=on for=25h", "for is 90000: want a number from 0.1 to 86400 s"},
		{set, "value=on for=soon", `for is "soon": want a number from 0.1 to 86400 s`},
		{set, "for=5s", "value is missing: want on or off"},
		{set, "value=on colour=red", "colour is not known: want only for, value"},
		{set, "value=on value=off", "value is given twice: want on or off"},
		{set, "on", `the value is "on": want KEY=VALUE, with a key of for, value`},
		{logs, "lines=1.5", "lines is 1.5: want a whole number from 1 to 1000"},
		{logs, "lines=NaN", "lines is"},
		{read, "sensor=clock", `sensor is "clock": want one of "relay", "bme280"`},
		{nil, "x=1", `the value is "x=1": want no arguments`},
	} {
		got, err := c.in.Arguments(strings.Fields(c.words))
		text, jerr := json.Marshal(got)
		if jerr != nil {
			t.Fatal(jerr)
		}
		var ae *thing.ArgumentError
		switch {
		case strings.HasPrefix(c.want, "{") && (err != nil || string(text) != c.want):
			t.Errorf("%s: %s, %v", c.words, text, err)
		case !strings.HasPrefix(c.want, "{") && (!errors.As(err, &ae) || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.words, err, c.want)
		}
	}
}

// TestCheck_WhatTheWireCarries: the device judges what a peer sends, whatever its type.
func TestCheck_WhatTheWireCarries(t *testing.T) {
	in := board().Actions["gpio-out/switch"].Input
	for _, v := range []any{nil, true, "x", []any{}, map[string]any{}, map[string]any{"value": 1.0}, map[string]any{"value": true, "for": "5"},
		map[string]any{"value": true, "for": uint64(1 << 60)}, map[string]any{"value": map[string]any{}}, map[string]any{"value": true, "x": nil}} {
		var ae *thing.ArgumentError
		if err := in.Check("", v); !errors.As(err, &ae) {
			t.Errorf("%v: %v", v, err)
		}
	}
	if err := in.Check("", map[string]any{"value": true, "for": uint64(5)}); err != nil {
		t.Error(err)
	}
	if err := (*thing.Schema)(nil).Check("", 1); err == nil {
		t.Error("a value where there is none")
	}
}

func TestSample_RoundTrip(t *testing.T) {
	for _, s := range []edge.Sample{{Quantity: switchOn, Value: 1}, {Quantity: switchOn}, {Quantity: edge.Quantity{Name: "x", Unit: "V"}, Value: 2.5},
		{Quantity: edge.Quantity{Name: "t", Kind: edge.Text}, Text: "words"}} {
		if got := thing.Sample(s.Quantity, thing.ValueOf(s)); got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	}
}

// FuzzParse: whatever is taken has one form, which is taken again, and every schema in it survives any word.
func FuzzParse(f *testing.F) {
	small := thing.Build(thing.Device{ID: key(1).ID(), Sensors: []thing.Sensor{{Name: "s", Stream: "main", Measures: []edge.Quantity{switchOn}, Outputs: []edge.Quantity{switchOn}}}})
	small.NextVersion(0)
	good, err := small.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "on")
	f.Add([]byte(`{"@context":["https://www.w3.org/2022/wot/td/v1.1"],"id":"streembit:`+key(1).ID().String()+`","version":{"instance":"1"}}`), "1e999")
	f.Fuzz(func(t *testing.T, in []byte, word string) {
		d, err := thing.Parse(in)
		if err != nil {
			if !errors.Is(err, thing.ErrBadDescription) {
				t.Fatal(err)
			}
			return
		}
		text, err := d.Encode()
		if err != nil {
			return // longer than what it was made of
		}
		again, err := thing.Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, in, text)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(text, second) {
			t.Fatalf("%v\n%s\n%s", err, text, second)
		}
		for name, p := range d.Properties {
			if v, err := p.Value(name, word); err == nil && p.Check(name, v) != nil {
				t.Fatalf("%q was taken for %s and does not fit", word, name)
			}
		}
	})
}

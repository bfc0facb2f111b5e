// SPDX-License-Identifier: Apache-2.0

package shape_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/shape"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Example converts and renames for an export.
func ExampleRules_Check() {
	r := shape.Rules{Sensors: []string{"*/pressure"}, Units: map[string]string{"Pa": "hPa", "Cel": "kWh"}}
	fmt.Println(r.Check())
	// Output: units: kWh is a unit of J, not of Cel
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		rules shape.Rules
		want  string
	}{
		{shape.Rules{}, ""},
		{shape.Rules{Labels: []string{"site"}}, "key=value"},
		{shape.Rules{Sensors: []string{"a["}}, "sensors"},
		{shape.Rules{Sensors: []string{"a/b/c"}}, "sensors"},
		{shape.Rules{Rename: map[string]string{"a": "b/c"}}, "rename"},
		{shape.Rules{Rename: map[string]string{"a": "B"}}, "rename"},
		{shape.Rules{Rename: map[string]string{"a/b": "c/d", "e": "f"}}, ""},
		{shape.Rules{Units: map[string]string{"hPa": "Pa"}}, "no primary unit"},
		{shape.Rules{Units: map[string]string{"Pa": "bar"}}, "no secondary unit"},
		{shape.Rules{Units: map[string]string{"Pa": "hPa", "m/s": "km/h"}}, ""},
	} {
		if err := c.rules.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rules, err, c.want)
		}
	}
}

// TestUnits holds the conversions against the formulas of RFC 8798 §3, written out here once more.
func TestUnits(t *testing.T) {
	for _, c := range []struct {
		primary, to string
		value, want float64
	}{
		{"s", "ms", 1.5, 1500}, {"s", "min", 90, 1.5}, {"s", "h", 5400, 1.5}, {"Hz", "MHz", 868e6, 868}, {"W", "kW", 2500, 2.5}, {"C", "Ah", 9000, 2.5},
		{"J", "Wh", 7200, 2}, {"J", "kWh", 9e6, 2.5}, {"J/m", "Wh/km", 36, 10}, {"B", "KiB", 2048, 2}, {"bit/s", "MB/s", 16e6, 2}, {"V", "mV", 3.3, 3300},
		{"dBW", "dBm", -100, -70}, {"kg/m3", "ug/m3", 25e-9, 25}, {"m/s", "mm/h", 1.0 / 3600, 1000}, {"/", "ppm", 0.0004, 400}, {"Pa", "hPa", 101325, 1013.25},
		{"m", "mm", 0.25, 250}, {"m/s", "km/h", 10, 36}, {"/", "/100", 0.5, 50},
	} {
		rules := shape.Rules{Units: map[string]string{c.primary: c.to}}
		if err := rules.Check(); err != nil {
			t.Error(err)
		}
		rows := write(t, rules, edge.Reading{Sensor: "x", Sample: edge.Sample{Quantity: edge.Quantity{Name: "y", Unit: c.primary}, Value: c.value}})
		if got := rows[0]; got.Unit != c.to || math.Abs(got.Value-c.want) > 1e-12*math.Abs(c.want) {
			t.Errorf("%v %s is %v %s, want %v %s", c.value, c.primary, got.Value, got.Unit, c.want, c.to)
		}
	}
}

// last keeps the last batch. It checks as every sink does.
type last struct{ b collector.Batch }

func (l *last) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }
func (l *last) Close() error                                                    { return nil }
func (l *last) Write(_ context.Context, b collector.Batch) error {
	l.b = b
	return b.Check(true)
}

func write(t *testing.T, rules shape.Rules, readings ...edge.Reading) []collector.Row {
	t.Helper()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Received: time.Now()}
	for i, r := range readings {
		b.Readings = append(b.Readings, collector.Row{Index: i, Reading: r})
	}
	sink := &last{}
	if err := shape.Wrap(sink, rules, nobody).Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return sink.b.Readings
}

func nobody() *fleet.Fleet { return new(fleet.Fleet) }

// TestDevices: by name, id, label and site, also of a device that was revoked since.
func TestDevices(t *testing.T) {
	key := func(n byte) journal.SoftKey {
		return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
	}
	recovery, err := journal.GenerateReaderKey()
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Found(fleet.Founding{Name: "farm", Owner: key(1), Spare: key(2).ID(), Recovery: recovery.Public()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	author, pi, other := fleet.Author{Key: key(1)}, key(11).ID(), key(12).ID()
	f, err = f.Grant(author, time.Now(), fleet.Grant{Member: pi, Name: "pi-1", Roles: fleet.Device, Site: "lab", Labels: []string{"floor=2"}},
		fleet.Grant{Member: other, Name: "pi-2", Roles: fleet.Device})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := f.Revoke(author, time.Now(), pi, nil, "sold")
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range []shape.Rules{{Devices: []string{"pi-1"}}, {Devices: []string{pi.String()}}, {Labels: []string{"floor=2"}}, {Labels: []string{"site=lab"}},
		{Devices: []string{"none"}, Labels: []string{"floor=3", "floor=2"}}} {
		for _, f := range []*fleet.Fleet{f, gone} {
			for device, want := range map[edge.ID]int{pi: 1, other: 0} {
				sink := &last{}
				b := collector.Batch{Chain: journal.Chain{Device: device, Stream: "main"}, Mark: &journal.Link{}, Readings: sinktest.Rows(0, 0, 1)}
				if err := shape.Wrap(sink, rules, func() *fleet.Fleet { return f }).Write(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if len(sink.b.Readings) != want || sink.b.Mark == nil {
					t.Errorf("%+v: %d readings of %s, mark %v", rules, len(sink.b.Readings), device.Short(), sink.b.Mark)
				}
			}
		}
	}
}

// TestSensorsAndNames: what passes keeps its place, under its new name.
func TestSensorsAndNames(t *testing.T) {
	reading := func(sensor, quantity string) edge.Reading {
		return edge.Reading{Sensor: sensor, Sample: edge.Sample{Quantity: edge.Quantity{Name: quantity}}}
	}
	all := []edge.Reading{reading("bme280-0", "temperature"), reading("bme280-0", "pressure"), reading("ds18b20-1", "temperature"), reading("tank", "level")}
	for _, c := range []struct {
		rules shape.Rules
		want  []string
	}{
		{shape.Rules{}, []string{"0 bme280-0/temperature", "1 bme280-0/pressure", "2 ds18b20-1/temperature", "3 tank/level"}},
		{shape.Rules{Sensors: []string{"bme280-*"}}, []string{"0 bme280-0/temperature", "1 bme280-0/pressure"}},
		{shape.Rules{Sensors: []string{"*/temperature", "tank"}}, []string{"0 bme280-0/temperature", "2 ds18b20-1/temperature", "3 tank/level"}},
		{shape.Rules{Sensors: []string{"bme280-0"}, Rename: map[string]string{"bme280-0": "roof", "bme280-0/pressure": "yard/air"}},
			[]string{"0 roof/temperature", "1 yard/air"}},
	} {
		var got []string
		for _, r := range write(t, c.rules, all...) {
			got = append(got, fmt.Sprint(r.Index, " ", r.Name()))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.rules, got, c.want)
		}
	}
	if all[0].Sensor != "bme280-0" {
		t.Error("the caller's readings were changed")
	}
}

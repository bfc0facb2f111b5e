// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/streembit/edge"
)

// libraryRecord is the oracle: the same record through a general CBOR library in core deterministic encoding.
type libraryRecord struct {
	Base  *string  `cbor:"-2,keyasint,omitempty"`
	Name  string   `cbor:"0,keyasint"`
	Unit  string   `cbor:"1,keyasint,omitempty"`
	Value *float64 `cbor:"2,keyasint,omitempty"`
	Text  *string  `cbor:"3,keyasint,omitempty"`
	State *bool    `cbor:"4,keyasint,omitempty"`
	Sum   *float64 `cbor:"5,keyasint,omitempty"`
	Time  any      `cbor:"6,keyasint,omitempty"`
}

func libraryRecords(device edge.ID, ref int64, readings []edge.Reading) []libraryRecord {
	records := make([]libraryRecord, len(readings))
	for i := range readings {
		r, record := &readings[i], &records[i]
		if i == 0 {
			base := device.String() + "/"
			record.Base = &base
		}
		record.Name, record.Unit = r.Name(), r.Unit
		switch r.Kind {
		case edge.Gauge:
			record.Value = &r.Value
		case edge.Counter:
			record.Sum = &r.Value
		case edge.Text:
			record.Text = &r.Text
		case edge.State:
			on := r.Value == 1
			record.State = &on
		}
		switch t := r.At.Mono - ref; {
		case t == 0:
		case t%1000 == 0:
			record.Time = t / 1000
		default:
			record.Time = cbor.Tag{Number: 4, Content: []int64{-3, t}}
		}
	}
	return records
}

func libraryMode(t testing.TB) cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	return mode
}

func libraryEncode(t testing.TB, device edge.ID, ref int64, readings []edge.Reading) []byte {
	data, err := libraryMode(t).Marshal(libraryRecords(device, ref, readings))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkCBOR: what is accepted encodes to the same bytes with our encoder and with the general one, and the general decoder agrees.
func checkCBOR(t *testing.T, data []byte) {
	readings, err := edge.UnmarshalSenML(data, testDevice, testRef)
	if err != nil {
		return
	}
	again, err := edge.MarshalSenML(testDevice, testRef.Mono, readings)
	if err != nil || !bytes.Equal(again, data) {
		t.Fatalf("accepted %x\n encoded %x\n error %v", data, again, err)
	}
	if want := libraryEncode(t, testDevice, testRef.Mono, readings); !bytes.Equal(again, want) {
		t.Fatalf("the general encoder differs:\n got %x\nwant %x", again, want)
	}
	var records []libraryRecord
	if err := cbor.Unmarshal(data, &records); err != nil || len(records) != len(readings) {
		t.Fatalf("the general decoder: %d records, %v", len(records), err)
	}
	for i, r := range readings {
		if records[i].Name != r.Name() || records[i].Unit != r.Unit || r.Kind == edge.Gauge && *records[i].Value != r.Value {
			t.Fatalf("record %d: %+v, general decoder %+v", i, r, records[i])
		}
		if r.At.Wall-testRef.Wall != r.At.Mono-testRef.Mono {
			t.Fatalf("record %d: the two times differ: %+v", i, r.At)
		}
	}
}

func FuzzSenMLCBOR(f *testing.F) {
	data, err := edge.MarshalSenML(testDevice, testRef.Mono, testReadings())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, 21.5, int64(1500), uint8(0))
	f.Add([]byte{0x80}, 1e-7, int64(1000), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, value float64, ago int64, kind uint8) {
		checkCBOR(t, data)
		r := reading("a", "b", "/", edge.Kind(kind%4), value, "", ago)
		if r.Kind == edge.Text {
			r.Text = string(data)
		}
		pack, err := edge.MarshalSenML(testDevice, testRef.Mono, []edge.Reading{r})
		if err != nil {
			return
		}
		if want := libraryEncode(t, testDevice, testRef.Mono, []edge.Reading{r}); !bytes.Equal(pack, want) {
			t.Fatalf("the general encoder differs:\n got %x\nwant %x", pack, want)
		}
		got, err := edge.UnmarshalSenML(pack, testDevice, testRef)
		if r.Kind == edge.Text {
			r.Value = 0 // is not carried
		}
		if err != nil || !equalReadings(got, []edge.Reading{r}) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, r)
		}
	})
}

func FuzzSenMLJSON(f *testing.F) {
	data, err := edge.MarshalSenMLJSON(testDevice, testReadings())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, 21.5, int64(1_700_000_000_001))
	f.Add([]byte(`[{"n":"`+testDevice.String()+`/a/b","vs":"\ud800"}]`), 1e300, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, value float64, wall int64) {
		r := reading("a", "b", "", edge.Gauge, value, "", 0)
		r.At = edge.Instant{Wall: wall}
		if pack, err := edge.MarshalSenMLJSON(testDevice, []edge.Reading{r}); err == nil {
			_, got, err := edge.UnmarshalSenMLJSON(pack)
			if err != nil || !equalReadings(got, []edge.Reading{r}) {
				t.Fatalf("%s gave %+v, %v", pack, got, err)
			}
		} else if !math.IsNaN(value) && !math.IsInf(value, 0) && wall >= 1<<28*1000 {
			t.Fatal(err)
		}
		device, readings, err := edge.UnmarshalSenMLJSON(data)
		if err != nil {
			return
		}
		again, err := edge.MarshalSenMLJSON(device, readings)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := edge.UnmarshalSenMLJSON(again)
		if err != nil || !equalReadings(got, readings) {
			t.Fatalf("%s\ngave %+v\nthen %+v, %v", data, readings, got, err)
		}
	})
}

func benchReadings(n int) []edge.Reading {
	readings := make([]edge.Reading, n)
	for i := range readings {
		j := i % 3
		q := [3]edge.Quantity{{Name: "temperature", Unit: "Cel"}, {Name: "humidity", Unit: "%RH"}, {Name: "pressure", Unit: "Pa"}}[j]
		readings[i] = edge.Reading{Sensor: "bme280-0", Sample: edge.Sample{Quantity: q, Value: [3]float64{25.08, 41.5, 100653.25}[j] + float64(i)/100},
			At: edge.Instant{Mono: testRef.Mono - int64(n-i)*10, Wall: testRef.Wall - int64(n-i)*10}}
	}
	return readings
}

func BenchmarkSenML(b *testing.B) {
	readings := benchReadings(1000)
	data, err := edge.MarshalSenML(testDevice, testRef.Mono, readings)
	if err != nil {
		b.Fatal(err)
	}
	perReading := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(readings)), "ns/reading")
		b.ReportMetric(float64(len(data))/float64(len(readings)), "B/reading")
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := edge.MarshalSenML(testDevice, testRef.Mono, readings); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := edge.UnmarshalSenML(data, testDevice, testRef); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	b.Run("library-encode", func(b *testing.B) {
		mode := libraryMode(b)
		for b.Loop() {
			if _, err := mode.Marshal(libraryRecords(testDevice, testRef.Mono, readings)); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
	b.Run("library-decode", func(b *testing.B) {
		for b.Loop() {
			var records []libraryRecord
			if err := cbor.Unmarshal(data, &records); err != nil {
				b.Fatal(err)
			}
		}
		perReading(b)
	})
}

// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"
)

// ReadSenML reads the readings of a chain out of a pack of SenML JSON as package delivery writes it.
func ReadSenML(t testing.TB, chain string, pack []byte) (out []Delivered) {
	t.Helper()
	var records []struct {
		Name  string   `json:"n"`
		Unit  string   `json:"u"`
		Value *float64 `json:"v"`
		Sum   *float64 `json:"s"`
		Text  *string  `json:"vs"`
		State *bool    `json:"vb"`
		Time  float64  `json:"t"`
		Seq   uint64   `json:"seq"`
		Index int      `json:"idx"`
		Boot  string   `json:"boot"`
		Mono  int64    `json:"mono_ms"`
	}
	dec := json.NewDecoder(bytes.NewReader(pack))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&records); err != nil {
		t.Fatalf("%v: %s", err, pack)
	}
	for _, r := range records {
		d := Delivered{ID: fmt.Sprintf("%s/%d/%d", chain, r.Seq, r.Index), Wall: int64(math.Round(r.Time * 1000))}
		n := 0
		if r.Value != nil {
			d.Value, n = fmt.Sprint(*r.Value), n+1
		}
		if r.Sum != nil {
			d.Value, n = fmt.Sprint(*r.Sum), n+1
		}
		if r.Text != nil {
			d.Value, n = *r.Text, n+1
		}
		if r.State != nil {
			d.Value, n = fmt.Sprint(*r.State), n+1
		}
		if n != 1 || (r.Time == 0) != (r.Boot != "") {
			t.Errorf("%s has %d values, time %v, boot %q", d.ID, n, r.Time, r.Boot)
		}
		out = append(out, d)
	}
	return out
}

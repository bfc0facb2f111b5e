// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// ContentType is the media type of SenML (RFC 8428 §12.3.1).
const ContentType = "application/senml+json"

// record is a resolved SenML record (RFC 8428 §4.6) with labels of ours, which others must ignore (§4.4): seq and idx, the reading's place in
// the chain that the message names, and where the device did not know the time, the boot and the milliseconds since.
type record struct {
	Name  string          `json:"n"`
	Unit  string          `json:"u,omitempty"`
	Value *float64        `json:"v,omitempty"`
	Sum   *float64        `json:"s,omitempty"`
	Text  *string         `json:"vs,omitempty"`
	State *bool           `json:"vb,omitempty"`
	Time  json.Number     `json:"t,omitempty"`
	Seq   uint64          `json:"seq"`
	Index int             `json:"idx"`
	Boot  *journal.BootID `json:"boot,omitempty"`
	Mono  int64           `json:"mono_ms,omitempty"`
}

// SenML returns the parcel as a pack of SenML JSON, a record a line.
func (p Parcel) SenML() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	prefix := p.Chain.Device.String() + "/"
	for i := range p.Rows {
		r := &p.Rows[i]
		rec := record{Name: prefix + r.Name(), Unit: r.Unit, Seq: r.Seq, Index: r.Index}
		on := r.Value == 1
		switch r.Kind {
		case edge.Text:
			rec.Text = &r.Text
		case edge.State:
			rec.State = &on
		case edge.Counter:
			rec.Sum = &r.Value
		default:
			rec.Value = &r.Value
		}
		if r.At.Synced() {
			rec.Time = seconds(r.At.Wall)
		} else {
			rec.Boot, rec.Mono = &r.Boot, r.At.Mono
		}
		b.WriteByte(',')
		if err := enc.Encode(rec); err != nil {
			return nil, fmt.Errorf("delivery: encoding %s: %w", p.RowID(r), err)
		}
	}
	out := b.Bytes()
	out[0], out[len(out)-1] = '[', ']'
	return out, nil
}

// seconds shows milliseconds since 1970 as SenML's seconds, exactly.
func seconds(ms int64) json.Number {
	s := strconv.FormatInt(ms/1000, 10)
	if f := ms % 1000; f != 0 {
		s += fmt.Sprintf(".%03d", f)
	}
	return json.Number(s)
}

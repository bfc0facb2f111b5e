// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// UnmarshalSenML reads a pack that MarshalSenML wrote and is its strict inverse: it accepts exactly the bytes that
// encoding its result again would give. It refuses a base name other than device, labels and units that this package does not write, more than
// MaxPackReadings records, and any longer, unsorted or indefinite form. Memory stays within a small multiple of len(data).
//
// ref is the instant at which the pack was closed; each reading gets At.Mono = ref.Mono + t, and At.Wall = ref.Wall + t
// when ref is synced, else 0. An error wraps ErrBadSenML.
func UnmarshalSenML(data []byte, device ID, ref Instant) ([]Reading, error) {
	d := packDecoder{data: data, base: device.String() + "/", ref: ref, names: make(map[string]nameParts, 16)}
	readings, err := d.pack()
	if err != nil {
		return nil, fmt.Errorf("edge: decoding SenML: %w", err)
	}
	return readings, nil
}

type nameParts struct{ sensor, quantity string }

// packDecoder walks over data. names keeps one copy of each name, since a pack repeats few names often.
type packDecoder struct {
	data  []byte
	off   int
	base  string
	ref   Instant
	names map[string]nameParts
}

func (d *packDecoder) pack() ([]Reading, error) {
	if d.ref.Mono < 0 || d.ref.Wall < 0 {
		return nil, badSenML("the pack was closed at a negative time %+v", d.ref)
	}
	n, err := d.head(cborArray)
	switch {
	case err != nil:
		return nil, err
	case n == 0 || n > MaxPackReadings:
		return nil, badSenML("%d records: a pack has 1 to %d", n, MaxPackReadings)
	case n > uint64(len(d.data)/minRecord):
		return nil, badSenML("%d records announced in %d bytes", n, len(d.data))
	}
	readings := make([]Reading, n)
	for i := range readings {
		if err := d.record(&readings[i], i == 0); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	if d.off != len(d.data) {
		return nil, badSenML("%d bytes after the last record", len(d.data)-d.off)
	}
	return readings, nil
}

// record reads one map. Its keys come in one order only, so each is expected in turn.
func (d *packDecoder) record(r *Reading, first bool) error {
	pairs, err := d.head(cborMap)
	if err != nil {
		return err
	}
	if err := d.name(r); err != nil {
		return err
	}
	used := uint64(2)
	if d.next(labelUnit) {
		used++
		if err := d.unit(r); err != nil {
			return err
		}
	}
	if err := d.value(r); err != nil {
		return err
	}
	ago := uint64(0)
	if d.next(labelTime) {
		used++
		if ago, err = d.time(); err != nil {
			return err
		}
	}
	if r.At, err = d.before(ago); err != nil {
		return err
	}
	if first {
		used++
		if err := d.baseName(); err != nil {
			return err
		}
	}
	if used != pairs {
		return badSenML("a map of %d entries in which %d are known here", pairs, used)
	}
	return nil
}

func (d *packDecoder) name(r *Reading) error {
	if !d.next(labelName) {
		return badSenML("no name (label 0) at the start of the record")
	}
	name, err := d.text(2*MaxNameLength + 1)
	if err != nil {
		return err
	}
	parts, known := d.names[string(name)]
	if !known {
		sensor, quantity, ok := splitName(name)
		if !ok {
			return badSenML("name %.140q is not <sensor>/<quantity>", name)
		}
		parts = nameParts{string(sensor), string(quantity)}
		d.names[string(name)] = parts
	}
	r.Sensor, r.Quantity.Name = parts.sensor, parts.quantity
	return nil
}

func (d *packDecoder) unit(r *Reading) error {
	u, err := d.text(MaxNameLength)
	if err != nil {
		return err
	}
	unit, ok := units[string(u)]
	if !ok {
		return badSenML("unit %q is not a SenML primary unit", u)
	}
	r.Unit = unit
	return nil
}

// value reads exactly one of v, vs, vb, s; the label tells the kind.
func (d *packDecoder) value(r *Reading) (err error) {
	switch {
	case d.next(labelValue):
		r.Kind = Gauge
		r.Value, err = d.float()
	case d.next(labelSum):
		r.Kind = Counter
		r.Value, err = d.float()
	case d.next(labelText):
		r.Kind = Text
		var t []byte
		if t, err = d.text(MaxTextLength); err == nil && !utf8.Valid(t) {
			err = badSenML("text is not UTF-8")
		}
		r.Text = string(t)
	case d.next(labelState):
		r.Kind = State
		switch {
		case d.next(cborTrue):
			r.Value = 1
		case !d.next(cborFalse):
			err = badSenML("a state (label 4) that is neither true nor false")
		}
	default:
		err = badSenML("no value (label 2 to 5) after name and unit")
	}
	return err
}

// time returns by how many milliseconds the record lies before the moment at which the pack was closed; never 0.
func (d *packDecoder) time() (ago uint64, err error) {
	if !d.next(cborDecimal) {
		n, err := d.head(cborNegative)
		if err != nil || n >= math.MaxInt64/uint64(millis) {
			return 0, badSenML("time (label 6) is not a whole number of seconds before the pack")
		}
		return (n + 1) * uint64(millis), nil
	}
	if !d.next(cborArray|2) || !d.next(cborMilli) {
		return 0, badSenML("time (label 6) is not a decimal fraction of milliseconds")
	}
	n, err := d.head(cborNegative)
	if err != nil || n >= math.MaxInt64 {
		return 0, badSenML("time (label 6) is not before the pack")
	}
	if (n+1)%uint64(millis) == 0 {
		return 0, badSenML("time (label 6) of whole seconds as a decimal fraction")
	}
	return n + 1, nil
}

// before returns the instant ago milliseconds before the pack was closed.
func (d *packDecoder) before(ago uint64) (Instant, error) {
	at := Instant{Mono: d.ref.Mono - int64(ago)}
	if at.Mono < 0 {
		return Instant{}, badSenML("time (label 6) lies %d ms before the pack, which was closed %d ms after boot", ago, d.ref.Mono)
	}
	if d.ref.Synced() {
		if at.Wall = d.ref.Wall - int64(ago); at.Wall <= 0 {
			return Instant{}, badSenML("time (label 6) lies before 1970")
		}
	}
	return at, nil
}

func (d *packDecoder) baseName() error {
	if !d.next(labelBase) {
		return badSenML("no base name (label -2) at the end of the first record")
	}
	base, err := d.text(len(d.base))
	if err != nil || string(base) != d.base {
		return badSenML("the base name is not %q: the pack is another device's", d.base)
	}
	return nil
}

// next consumes one byte if it is c.
func (d *packDecoder) next(c byte) bool {
	if d.off < len(d.data) && d.data[d.off] == c {
		d.off++
		return true
	}
	return false
}

// take consumes n bytes; nil means that there are not so many.
func (d *packDecoder) take(n int) []byte {
	if len(d.data)-d.off < n {
		return nil
	}
	d.off += n
	return d.data[d.off-n : d.off]
}

// head reads an item's first byte, which must be of the given major type, and its argument, which must have the shortest form.
func (d *packDecoder) head(major byte) (uint64, error) {
	b := d.take(1)
	if b == nil || b[0]&0xe0 != major {
		return 0, badSenML("no CBOR item of major type %d at byte %d", major>>5, d.off)
	}
	info := b[0] & 0x1f
	if info < 24 {
		return uint64(info), nil
	}
	if info > 27 {
		return 0, badSenML("an indefinite or reserved length at byte %d", d.off)
	}
	size := 1 << (info - 24)
	if b = d.take(size); b == nil {
		return 0, badSenML("cut off at byte %d", len(d.data))
	}
	n := uint64(0)
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	if n < 24 || size > 1 && n>>(4*size) == 0 {
		return 0, badSenML("a number that is not in its shortest form at byte %d", d.off)
	}
	return n, nil
}

func (d *packDecoder) text(limit int) ([]byte, error) {
	n, err := d.head(cborText)
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, badSenML("a text of %d bytes where %d are allowed", n, limit)
	}
	b := d.take(int(n))
	if b == nil {
		return nil, badSenML("cut off at byte %d", len(d.data))
	}
	return b, nil
}

// float reads a finite number and demands the shortest of the three formats, by encoding it again.
func (d *packDecoder) float() (float64, error) {
	start, v := d.off, math.NaN()
	switch {
	case d.next(cborHalf):
		if b := d.take(2); b != nil {
			v = fromHalf(binary.BigEndian.Uint16(b))
		}
	case d.next(cborSingle):
		if b := d.take(4); b != nil {
			v = float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
		}
	case d.next(cborDouble):
		if b := d.take(8); b != nil {
			v = math.Float64frombits(binary.BigEndian.Uint64(b))
		}
	}
	var again [9]byte
	if math.IsNaN(v) || math.IsInf(v, 0) || !bytes.Equal(appendFloat(again[:0], v), d.data[start:d.off]) {
		return 0, badSenML("no finite number in its shortest float format at byte %d", start)
	}
	return v, nil
}

// SPDX-License-Identifier: Apache-2.0

package influx

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// maxWall is the last time that line protocol can say, in ms: its times are nanoseconds in 64 bits.
const maxWall = math.MaxInt64/1_000_000 - 1

// Lines writes readings in line protocol, times in nanoseconds. The measurement is the quantity; tags are device, device_name, sensor,
// stream and unit; the field value, text or state holds the value; seq, idx and life (the incarnation's first 8 digits) say which
// reading it is. A reading whose time is not known has none, so that a server gives it the time at which it comes; it is therefore of the
// measurement QUANTITY_unsynced, with fields boot and mono_ms, the time since that boot.
//
// Two readings of one series with one time would be one point for a database, the later replacing the earlier. Devices' times are whole
// milliseconds, so the digits below say which reading of the chain it is: a reading always has the same time, and two never share one.
//
// The zero value is ready for use.
type Lines struct {
	Whole bool // a line end in a text is written \n, for readers that take line by line; InfluxDB keeps that as two characters
	b     []byte
}

// Reset forgets what was written.
func (l *Lines) Reset() { l.b = l.b[:0] }

// Bytes returns what was written since Reset.
func (l *Lines) Bytes() []byte { return l.b }

// Escapes of line protocol, from https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/#special-characters. A text may
// hold line ends and tabs as they are.
var (
	inTag  = strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `)
	inText = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	inLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)
)

// Add writes a line. device is the device's name in the fleet.
func (l *Lines) Add(c *journal.Chain, device string, r *collector.Row) error {
	if r.At.Wall > maxWall {
		return fmt.Errorf("%s: its time, %s, is after the year 2262, the last that line protocol can say", r.Name(), r.At.Time().Format(time.RFC3339))
	}
	l.add(r.Quantity.Name)
	if !r.At.Synced() {
		l.add("_unsynced")
	}
	l.add(",device=", c.Device.String())
	if name := tag(device); name != "" {
		l.add(",device_name=", inTag.Replace(name))
	}
	l.add(",sensor=", r.Sensor, ",stream=", c.Stream)
	if r.Unit != "" {
		l.add(",unit=", r.Unit)
	}
	l.add(" idx=", strconv.Itoa(r.Index), `i,life="`, c.Incarnation.String()[:8], `",seq=`, strconv.FormatUint(r.Seq, 10), "i,")
	switch r.Kind {
	case edge.Text:
		text := inText.Replace(r.Text)
		if l.Whole {
			text = inLine.Replace(text)
		}
		l.add(`text="`, text, `"`)
	case edge.State:
		l.add("state=", strconv.FormatBool(r.Value == 1))
	default:
		l.add("value=")
		l.b = strconv.AppendFloat(l.b, r.Value, 'g', -1, 64)
	}
	if r.At.Synced() {
		place := (uint64(binary.BigEndian.Uint32(c.Incarnation[:])) + r.Seq%1000*1000 + uint64(r.Index)) % 1_000_000
		l.add(" ")
		l.b = strconv.AppendInt(l.b, r.At.Wall*1_000_000+int64(place), 10)
	} else {
		l.add(`,boot="`, r.Boot.String(), `",mono_ms=`, strconv.FormatInt(r.At.Mono, 10), "i")
	}
	l.add("\n")
	return nil
}

func (l *Lines) add(parts ...string) {
	for _, p := range parts {
		l.b = append(l.b, p...)
	}
}

// tag makes a tag's value out of what people type: without control characters, and without a backslash at the end, which would
// join it with what follows.
func tag(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.TrimRight(s, `\ `)
}

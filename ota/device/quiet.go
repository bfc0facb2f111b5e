// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"
	"strings"
	"time"
)

// Quiet is hours of each day, in the machine's time zone, in which nothing is fetched or installed. It may go over midnight.
type Quiet struct{ From, To time.Duration } // since midnight

// ParseQuiet reads "08:00-18:30".
func ParseQuiet(s string) (q Quiet, err error) {
	from, to, ok := strings.Cut(s, "-")
	a, err1 := time.Parse("15:04", from)
	b, err2 := time.Parse("15:04", to)
	if !ok || err1 != nil || err2 != nil || a.Equal(b) {
		return q, fmt.Errorf("quiet hours %.40q: want for example \"08:00-18:30\", or \"22:00-06:00\" over midnight", s)
	}
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	return Quiet{a.Sub(midnight), b.Sub(midnight)}, nil
}

// Holds reports whether it is quiet then.
func (q Quiet) Holds(at time.Time) bool {
	h, m, s := at.Clock()
	now := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	if q.From < q.To {
		return q.From <= now && now < q.To
	}
	return now >= q.From || now < q.To
}

// String writes what ParseQuiet reads.
func (q Quiet) String() string {
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	return clock(q.From) + "-" + clock(q.To)
}

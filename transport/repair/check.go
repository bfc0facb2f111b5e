// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// errLie is wrapped by what no honest hub says.
var errLie = errors.New("it says what cannot be")

// maxRanges bounds the ranges in one answer: as many chains as a hub may have.
const maxRanges = 1 << 17

// checker holds the ranges of one answer against the question.
type checker struct {
	fleet journal.FleetID
	query transport.RangeQuery
	last  *transport.Range
	n     int
}

func (c *checker) check(r transport.Range) error {
	if c.n++; c.n > maxRanges {
		return fmt.Errorf("repair: more than %d ranges: %w", maxRanges, errLie)
	}
	length := r.Span.Last - r.Span.First // less one
	var why string
	switch {
	case r.Chain.Fleet != c.fleet || !journal.ValidStream(r.Chain.Stream):
		why = "a chain of another fleet"
	case r.Span.First > r.Span.Last || r.Span.Last > journal.MaxSeq || r.Floor > journal.MaxSeq+1:
		why = "a seq that cannot be"
	case r.Count == 0 || r.Count-1 > length:
		why = "a count that cannot be"
	case !c.fits(r):
		why = "an answer to another question"
	case !c.follows(r):
		why = "an answer out of order"
	case c.query.Chain != nil && length == journal.BucketSize-1 && uint64(bits.OnesCount64(r.Mask)) != r.Count:
		why = "a mask of another count"
	}
	if why != "" {
		return fmt.Errorf("repair: %s, %d of seq %d to %d: %s: %w", r.Chain, r.Count, r.Span.First, r.Span.Last, why, errLie)
	}
	c.last = &r
	return nil
}

func (c *checker) fits(r transport.Range) bool {
	q := c.query
	switch {
	case q.Chain == nil:
		return r.Span.First == 0
	case *q.Chain != r.Chain || r.Span.First < q.Span.First || r.Span.Last > q.Span.Last:
		return false
	case q.Width == 0:
		return r.Span == q.Span
	}
	return (r.Span.First-q.Span.First)%q.Width == 0 && r.Span.Last == min(r.Span.First+(q.Width-1), q.Span.Last)
}

func (c *checker) follows(r transport.Range) bool {
	switch {
	case c.last == nil:
		return true
	case c.query.Chain == nil:
		return compare(c.last.Chain, r.Chain) < 0
	}
	return c.last.Span.First < r.Span.First
}

func compare(a, b journal.Chain) int {
	if c := a.Device.Compare(b.Device); c != 0 {
		return c
	}
	if c := strings.Compare(a.Stream, b.Stream); c != 0 {
		return c
	}
	return bytes.Compare(a.Incarnation[:], b.Incarnation[:])
}

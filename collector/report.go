// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Report is what a pull found. String shows it as a table.
type Report struct {
	Took     time.Duration
	Hubs     []HubReport
	Chains   []ChainReport
	Segments uint64 // proven in this pull: signature, place and link
	Verified uint64 // readings that came out of proven segments
	Readings uint64 // readings that the sink committed
	Missing  uint64 // segments that exist and are not in the sink, all pulls together
	Sealed   uint64 // proven segments whose epoch is wrapped for other readers
	Refused  uint64 // readings that the sink cannot hold and that were kept elsewhere (Config.Dead)
	BadCount int    // len(Bad) unless there are very many
	Bad      []Bad
	Forks    []ForkReport
}

// HubReport says whether a hub answered.
type HubReport struct {
	Hub    edge.ID
	Name   string
	Chains int    // that it holds something of, or held
	Lacks  uint64 // segments that it ought to hold, that others hold and that it does not claim, as far as they were pulled now
	Err    error  // the last failure, nil for none

	// Withheld counts segments that it says it holds and did not send when it was asked. A few are no proof: it may have let them go meanwhile, or found them
	// damaged.
	Withheld uint64
}

// ChainReport says what the sink has of a chain.
type ChainReport struct {
	Chain    journal.Chain
	Name     string // the device's
	Empty    bool   // the sink has nothing yet
	To       uint64 // the sink accounts for 0..To
	Missing  []Gap  // but for these, and these may also lie after To
	Unproven string // what a hub says that it let go beyond that, though nothing proves that it was; "" for nothing
	Segments uint64 // in this pull, as the totals
	Verified uint64
	Readings uint64
	Sealed   uint64
	Refused  uint64
	Err      error // why the pull of this chain ended early, nil if it did not
}

// Complete reports whether everything that is known to exist is in the sink.
func (c ChainReport) Complete() bool { return len(c.Missing) == 0 && c.Err == nil }

// Bad is a copy of a segment that a hub served and that is not what it must be. The zero Hub means the DHT's head, or a rewrap by a member.
type Bad struct {
	Hub   edge.ID
	By    edge.ID // the member, zero if it is no rewrap
	Chain journal.Chain
	Seq   uint64
	Err   error
}

func (b Bad) String() string {
	from := "the DHT"
	if b.By != (edge.ID{}) {
		from = "member " + b.By.Short()
	}
	if b.Hub != (edge.ID{}) {
		from = "hub " + b.Hub.Short()
	}
	return fmt.Sprintf("%s: seq %d of %s: %v", from, b.Seq, b.Chain, b.Err)
}

// ForkReport is a proven fork.
type ForkReport struct {
	Chain journal.Chain
	Fork
}

// Complete reports whether every chain is complete and none forked.
func (r Report) Complete() bool {
	return r.Missing == 0 && len(r.Forks) == 0 &&
		!slices.ContainsFunc(r.Chains, func(c ChainReport) bool { return !c.Complete() })
}

// finish makes the report out of the run and of where the chains stand now.
func (r *run) finish(states map[journal.Chain]*state) Report {
	for chain, s := range states {
		if !r.c.wanted(chain) {
			continue
		}
		r.chain(chain, func(cr *ChainReport) {
			cr.Empty = s.mark.Link == nil
			if !cr.Empty {
				cr.To = s.mark.Link.Seq
			}
			cr.Missing = slices.Clone(s.mark.Gaps)
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Report{Took: time.Since(r.started), Bad: r.badList, BadCount: r.badCount, Forks: r.forks}
	for _, h := range r.hubs {
		out.Hubs = append(out.Hubs, h.HubReport)
	}
	for _, c := range r.chains {
		r.explain(c)
		out.Chains = append(out.Chains, *c)
		out.Segments += c.Segments
		out.Verified += c.Verified
		out.Readings += c.Readings
		out.Sealed += c.Sealed
		out.Refused += c.Refused
		for _, g := range c.Missing {
			out.Missing += g.Segments()
		}
	}
	slices.SortFunc(out.Chains, func(a, b ChainReport) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), compareChains(a.Chain, b.Chain))
	})
	return out
}

// explain adds what the devices' gap notes say, as far as this Collector has read them.
func (r *run) explain(c *ChainReport) {
	for i := range c.Missing {
		g := &c.Missing[i]
		for _, n := range r.c.explained.of(stream{c.Chain.Device, c.Chain.Stream, c.Chain.Incarnation}) {
			if g.Explained == "" && n.Segments > 0 && n.From <= g.Last && n.To >= g.First {
				g.Explained = n.Reason.String()
			}
		}
	}
}

func compareChains(a, b journal.Chain) int {
	return cmp.Or(a.Device.Compare(b.Device), cmp.Compare(a.Stream, b.Stream), bytes.Compare(a.Incarnation[:], b.Incarnation[:]))
}

// shown is how many gaps and bad segments String lists before it counts the rest.
const shown = 20

// String shows the report for a terminal: a line per chain, then what is wrong, then the totals.
func (r Report) String() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tSTREAM\tLIFE\tSEGMENTS\tREADINGS\tSTATE")
	for _, c := range r.Chains {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", cmp.Or(c.Name, c.Chain.Device.Short()), c.Chain.Stream,
			c.Chain.Incarnation.String()[:8], c.Segments, c.Readings, c.state())
	}
	w.Flush() // a bytes.Buffer does not fail
	for _, c := range r.Chains {
		for i, g := range c.Missing {
			if i == shown {
				fmt.Fprintf(&b, "missing: %s: %d more gaps\n", c.Chain, len(c.Missing)-shown)
				break
			}
			fmt.Fprintf(&b, "missing: %s: seq %s\n", c.Chain, g)
		}
		if c.Unproven != "" {
			fmt.Fprintf(&b, "unproven: %s: %s\n", c.Chain, c.Unproven)
		}
		if c.Err != nil {
			fmt.Fprintf(&b, "stopped: %s: %v\n", c.Chain, c.Err)
		}
	}
	for _, bad := range r.Bad[:min(len(r.Bad), shown)] {
		fmt.Fprintf(&b, "bad: %s\n", bad)
	}
	if r.BadCount > shown {
		fmt.Fprintf(&b, "bad: %d more\n", r.BadCount-shown)
	}
	for _, f := range r.Forks {
		fmt.Fprintf(&b, "FORK: seq %d of %s: two signed segments claim one place: the device is cloned or was turned back\n", f.Seq, f.Chain)
	}
	for _, h := range r.Hubs {
		if h.Err != nil {
			fmt.Fprintf(&b, "hub %s (%s): %v\n", h.Name, h.Hub.Short(), h.Err)
		}
		if h.Withheld > 0 {
			fmt.Fprintf(&b, "hub %s (%s): did not send %d segments that it says it holds\n", h.Name, h.Hub.Short(), h.Withheld)
		}
		if h.Lacks > 0 {
			fmt.Fprintf(&b, "hub %s (%s): lacks %d segments that it ought to hold and others have\n", h.Name, h.Hub.Short(), h.Lacks)
		}
	}
	fmt.Fprintf(&b, "segments=%d readings=%d verified=%d bad=%d missing=%d forks=%d sealed=%d in %s\n",
		r.Segments, r.Readings, r.Verified, r.BadCount, r.Missing, len(r.Forks), r.Sealed, r.Took.Round(time.Millisecond))
	return b.String()
}

func (c ChainReport) state() string {
	var n uint64
	for _, g := range c.Missing {
		n += g.Segments()
	}
	out := "nothing yet"
	switch {
	case n > 0:
		out = fmt.Sprintf("%d missing", n)
		if !c.Empty {
			out = fmt.Sprintf("from 0 to %d, %d missing", c.To, n)
		}
	case !c.Empty:
		out = fmt.Sprintf("complete from 0 to %d", c.To)
	}
	if c.Sealed > 0 {
		out += fmt.Sprintf(", %d sealed for others", c.Sealed)
	}
	if c.Refused > 0 {
		out += fmt.Sprintf(", %d readings refused by the sink", c.Refused)
	}
	if c.Err != nil {
		out += ", stopped"
	}
	return out
}

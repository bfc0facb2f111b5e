// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

const day = 24 * time.Hour

// keep is a retention of these devices' streams.
func keep(name string, age time.Duration, on string, required ...edge.ID) fleet.Retention {
	return fleet.Retention{Name: name, On: strings.Split(on, ","), Streams: []string{"*"}, MaxAge: age.Milliseconds(), Required: required}
}

// kept describes how long the fleet holds a device's stream, and for whom.
func kept(f *fleet.Fleet, device byte, stream string) string {
	age, required := f.Retention(id(device), stream)
	s := age.String()
	for _, r := range required {
		g, _ := f.Member(r)
		s += " " + g.Name
	}
	return s
}

// retained is the fleet in which the tests retain: two devices, two collectors, an operator for all, two for the lab.
func retained(t testing.TB) *fleet.Fleet {
	t.Helper()
	lab := []fleet.Right{right(t, "enrol collector on site=lab"), right(t, "enrol device on site=lab")}
	return must(found(t).Grant(by(1), now, operator(41), operator(42, lab...), operator(43, lab...), operator(44, right(t, "enrol device")),
		labelled(21, "site=lab"), labelled(22, "site=barn"), collector(t, 31), collector(t, 32)))(t)
}

func TestRetention_WhatCoversAChain(t *testing.T) {
	f := retained(t)
	if got := kept(f, 21, "main"); got != "168h0m0s" {
		t.Errorf("nobody said anything: %s", got)
	}
	f = must(f.Retain(by(1), now, keep("all", 30*day, "*", id(31))))(t)
	slow := keep("slow", 90*day, "site=lab", id(32))
	slow.Streams = []string{"slow", "log.*"}
	f = must(f.Retain(by(41), now, slow))(t)
	for _, c := range []struct {
		device byte
		stream string
		want   string
	}{
		{21, "main", "720h0m0s collector-31"}, {22, "slow", "720h0m0s collector-31"}, {99, "main", "720h0m0s collector-31"},
		{21, "log.door", "2160h0m0s collector-31 collector-32"},
	} {
		age, required := f.Retention(id(c.device), c.stream)
		var names []string
		for _, r := range required {
			g, _ := f.Member(r)
			names = append(names, " "+g.Name)
		}
		slices.Sort(names) // they come in the order of their ids
		if got := age.String() + strings.Join(names, ""); got != c.want {
			t.Errorf("%d %s: %s, want %s", c.device, c.stream, got, c.want)
		}
		if !slices.IsSortedFunc(required, edge.ID.Compare) {
			t.Errorf("%d %s: required are not in order", c.device, c.stream)
		}
	}
	// A retention that requires nobody keeps for its age, whatever others let go earlier.
	bare := must(f.Retain(by(1), now, keep("bare", 2*day, "site=lab")))(t)
	if got := kept(bare, 21, "main"); got != "720h0m0s" {
		t.Errorf("one that requires nobody, and one that does: %s", got)
	}
	// A collector that is none any more is waited for no longer; the age counts alone then.
	gone := must(f.Revoke(by(1), now, id(31), nil, "sold"))(t)
	if got := kept(gone, 22, "main"); got != "720h0m0s" {
		t.Errorf("its collector was revoked: %s", got)
	}
	// The end of one is the end of what it said; the others stay.
	ended := must(f.Retain(by(1), now, keep("all", 0, "*")))(t)
	if got := kept(ended, 22, "main"); got != "168h0m0s" {
		t.Errorf("ended: %s", got)
	}
	if all := ended.Retentions(); len(all) != 1 || all[0].Name != "slow" || all[0].Serial != 1 {
		t.Errorf("%+v", all)
	}
	again := must(ended.Retain(by(1), now, keep("all", 9*day, "*")))(t)
	if all := again.Retentions(); len(all) != 2 || all[0].Name != "all" || all[0].Serial != 3 {
		t.Errorf("after its end it is said again: %+v", all)
	}
	opened := must(fleet.Open(must(again.Encoded())(t), again.ID()))(t)
	if got, want := kept(opened, 21, "slow"), kept(again, 21, "slow"); got != want {
		t.Errorf("after a restart %s, before %s", got, want)
	}
}

func TestRetain_Rights(t *testing.T) {
	f := must(retained(t).Retain(by(1), now, keep("all", 30*day, "*")))(t)
	for name, c := range map[string]struct {
		by   byte
		what fleet.Retention
		want error
	}{
		"the owner":                              {1, keep("all", day, "*"), nil},
		"an operator for everything":             {41, keep("all", day, "*"), nil},
		"an operator for one site":               {42, keep("lab", day, "site=lab"), nil},
		"beyond the site":                        {42, keep("lab", day, "site=barn"), fleet.ErrNotAllowed},
		"one of two beyond the site":             {42, keep("lab", day, "site=lab,site=barn"), fleet.ErrNotAllowed},
		"one device by name, which may wander":   {42, keep("one", day, "device-21"), fleet.ErrNotAllowed},
		"what somebody said for all":             {42, keep("all", day, "site=lab"), fleet.ErrNotAllowed},
		"the end of what somebody said for all":  {42, keep("all", 0, "site=lab"), fleet.ErrNotAllowed},
		"an operator that enrols no collectors":  {44, keep("x", day, "*"), fleet.ErrNotAllowed},
		"a device":                               {21, keep("x", day, "*"), fleet.ErrNotAllowed},
		"a collector":                            {31, keep("x", day, "*"), fleet.ErrNotAllowed},
		"a stranger":                             {99, keep("x", day, "*"), fleet.ErrNotAllowed},
		"the spare owner, without a log":         {2, keep("x", day, "*"), fleet.ErrNotAllowed},
		"a name that is none":                    {1, keep("The Lab", day, "*"), fleet.ErrBadGrant},
		"shorter than an hour":                   {1, keep("x", time.Minute, "*"), fleet.ErrBadGrant},
		"longer than ten years":                  {1, keep("x", 4000*day, "*"), fleet.ErrBadGrant},
		"an age that wraps around":               {1, fleet.Retention{Name: "x", On: []string{"*"}, Streams: []string{"*"}, MaxAge: math.MinInt64 + 1e13}, fleet.ErrBadGrant},
		"no device":                              {1, fleet.Retention{Name: "x", Streams: []string{"*"}, MaxAge: day.Milliseconds()}, fleet.ErrBadGrant},
		"no stream":                              {1, fleet.Retention{Name: "x", On: []string{"*"}, MaxAge: day.Milliseconds()}, fleet.ErrBadGrant},
		"an empty word":                          {1, keep("x", day, "site=lab,"), fleet.ErrBadGrant},
		"a word that does not print":             {1, keep("x", day, "site=\x1b[2J"), fleet.ErrBadGrant},
		"more collectors than anybody has":       {1, keep("x", day, "*", make([]edge.ID, 17)...), fleet.ErrBadGrant},
		"more selectors than an entry may carry": {1, keep("x", day, strings.Repeat("a,", 16)+"a"), fleet.ErrBadGrant},
	} {
		next, err := f.Retain(by(c.by), now, c.what)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && next.Ignored() != 0 {
			t.Errorf("%s: %d entries ignored", name, next.Ignored())
		}
	}
}

// retains returns the log of one author who says retentions with serials of its own choice.
func retains(t testing.TB, f *fleet.Fleet, seed byte, all ...fleet.Retention) [][]byte {
	t.Helper()
	c := f.LogChain()
	if id(seed) != c.Device {
		c.Device, c.Incarnation = id(seed), journal.Incarnation{seed, 7}
	}
	var log [][]byte
	if id(seed) == f.LogChain().Device {
		log = f.Parts().Logs[0]
	}
	for _, r := range all {
		log = append(slices.Clip(log), fleet.LogEntry(t, c, log, key(seed), must(journal.Encode([]fleet.Entry{{Retain: &r}}))(t), 1))
	}
	return log
}

func serial(r fleet.Retention, n uint64) fleet.Retention {
	r.Serial = n
	return r
}

// Signers who do not hear of each other contradict each other: whatever comes first, all decide alike.
func TestRetention_ContradictionsAreDecidedAlike(t *testing.T) {
	f := retained(t)
	all, lab := keep("x", 30*day, "*"), keep("x", 2*day, "site=lab")
	for name, c := range map[string]struct {
		logs    map[byte][]fleet.Retention
		want    time.Duration // of what counts of "x"; 0 = ended or never said
		ignored int
	}{
		"the higher serial":                            {map[byte][]fleet.Retention{42: {serial(lab, 1)}, 43: {serial(keep("x", 3*day, "site=lab"), 2)}}, 3 * day, 0},
		"the owner against an operator":                {map[byte][]fleet.Retention{1: {serial(lab, 3)}, 41: {serial(all, 3)}}, 2 * day, 0},
		"the owner's last word":                        {map[byte][]fleet.Retention{1: {serial(lab, math.MaxUint64)}, 41: {serial(all, math.MaxUint64)}}, 2 * day, 0},
		"who could say the next word on the other's":   {map[byte][]fleet.Retention{41: {serial(all, 1)}, 42: {serial(lab, 1)}}, 30 * day, 0},
		"the higher serial of who may not":             {map[byte][]fleet.Retention{41: {serial(all, 1)}, 42: {serial(lab, 9)}}, 30 * day, 1},
		"the end by who may not":                       {map[byte][]fleet.Retention{1: {serial(all, 1)}, 43: {serial(keep("x", 0, "site=lab"), math.MaxUint64)}}, 30 * day, 1},
		"a name taken on one site, then said for all":  {map[byte][]fleet.Retention{42: {serial(lab, 1)}, 41: {serial(all, 2)}, 43: {serial(lab, 3)}}, 30 * day, 1},
		"the same twice":                               {map[byte][]fleet.Retention{41: {serial(lab, 2)}, 42: {serial(lab, 2)}, 1: {serial(all, 1)}}, 2 * day, 1},
		"two for one site: the order of bytes decides": {map[byte][]fleet.Retention{42: {serial(keep("x", 4*day, "site=lab"), 1)}, 43: {serial(keep("x", 5*day, "site=lab"), 1)}}, 4 * day, 0},
		"an end": {map[byte][]fleet.Retention{41: {serial(all, 1), serial(keep("x", 0, "*"), 2)}}, 0, 0},
	} {
		var logs [][][]byte
		for _, seed := range []byte{1, 41, 42, 43} {
			if rs := c.logs[seed]; rs != nil {
				logs = append(logs, retains(t, f, seed, rs...))
			}
		}
		for _, order := range permutations(len(logs)) {
			got := f
			for _, i := range order {
				got = must(got.Merge(fleet.Bundle{Logs: [][][]byte{logs[i]}}))(t)
			}
			age := time.Duration(0)
			for _, r := range got.Retentions() {
				age += time.Duration(r.MaxAge) * time.Millisecond
			}
			if age != c.want || got.Ignored() != c.ignored {
				t.Errorf("%s, in the order %v: %s and %d ignored, want %s and %d", name, order, age, got.Ignored(), c.want, c.ignored)
			}
		}
	}
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			out = append(out, slices.Insert(slices.Clone(p), at, n-1))
		}
	}
	return out
}

// An operator that uses the serials of a name up stops nobody: the owner speaks last, and there are other names.
func TestRetain_UsedUpSerials(t *testing.T) {
	f := retained(t)
	f = must(f.Merge(fleet.Bundle{Logs: [][][]byte{retains(t, f, 42, serial(keep("x", day, "site=lab"), math.MaxUint64))}}))(t)
	if _, err := f.Retain(by(43), now, keep("x", 5*day, "site=lab")); !errors.Is(err, fleet.ErrBadGrant) {
		t.Errorf("an equal, after the last serial: %v", err)
	}
	f = must(f.Retain(by(1), now, keep("x", 0, "*")))(t)
	if got := f.Retentions(); len(got) != 0 {
		t.Errorf("the owner ended it: %+v", got)
	}
	if got := must(f.Retain(by(1), now, keep("y", 2*day, "*")))(t).Retentions(); len(got) != 1 {
		t.Errorf("another name: %+v", got)
	}
}

// What a revoked operator said after its end does not count.
func TestRetention_OfARevokedOperator(t *testing.T) {
	f := must(retained(t).Retain(by(42), now, keep("lab", 20*day, "site=lab")))(t)
	tips := f.Tips(id(42))
	later := must(f.Retain(by(42), now, keep("lab", 0, "site=lab")))(t)
	f = must(f.Revoke(by(1), now, id(42), tips, "left"))(t)
	f = must(f.Merge(later.Parts()))(t)
	if got := kept(f, 21, "main"); got != "480h0m0s" {
		t.Errorf("held for %s", got)
	}
}

// An entry of a retention has four places and every other one three, as before there were retentions; no entry has two forms.
func TestGolden_Retention(t *testing.T) {
	r := serial(keep("lab", 30*day, "site=lab,pi-7", id(31)), 2)
	r.Streams = []string{"main", "log.*"}
	enc := must(journal.Encode([]fleet.Entry{{Retain: &r}}))(t)
	if *update {
		record(t, "retention", enc)
	}
	if want := golden(t, "retention"); !bytes.Equal(enc, want) {
		t.Errorf("encodes to %x, want %x", enc, want)
	}
	var got []fleet.Entry
	if err := journal.Decode(enc, &got); err != nil || len(got) != 1 || fmt.Sprint(*got[0].Retain) != fmt.Sprint(r) {
		t.Errorf("%+v, %v", got, err)
	}
	g := device(21)
	g.Serial = 1
	for _, e := range []fleet.Entry{{Grant: &g}, {Revoke: &fleet.Revocation{Member: id(21), Serial: 2}}, {Policy: &fleet.Policy{ID: fleet.TokenID{1}}}} {
		enc := must(journal.Encode(e))(t)
		if enc[0] != 0x83 {
			t.Errorf("an entry as before retentions begins with %x", enc[0])
		}
		long := append([]byte{0x84}, append(bytes.Clone(enc[1:]), 0xf6)...)
		if err := journal.Decode(long, &fleet.Entry{}); !errors.Is(err, journal.ErrNotCanonical) {
			t.Errorf("an entry of four places without a retention: %v", err)
		}
	}
	for _, bad := range [][]byte{{0x82, 0xf6, 0xf6}, {0x85, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6}, {0x84}, {0x80}, {0xa0}, {0xf6}} {
		if err := journal.Decode(bad, &fleet.Entry{}); err == nil {
			t.Errorf("%x decodes", bad)
		}
	}
}

// FuzzEntry: what decodes as an entry encodes to the same bytes, and what a fleet takes in as a retention stays within its bounds.
func FuzzEntry(f *testing.F) {
	f.Add(golden(f, "retention"))
	g := collector(f, 31)
	g.Serial = 1
	for _, e := range []fleet.Entry{{Grant: &g}, {Retain: &fleet.Retention{}}, {Revoke: &fleet.Revocation{Member: id(21), Serial: 9}}} {
		f.Add(must(journal.Encode([]fleet.Entry{e}))(f))
	}
	base := retained(f)
	chain := base.LogChain()
	chain.Device, chain.Incarnation = id(42), journal.Incarnation{42, 7}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 1<<14 {
			return
		}
		var all []fleet.Entry
		if err := journal.Decode(data, &all); err != nil {
			return
		}
		if again := must(journal.Encode(all))(t); !bytes.Equal(again, data) {
			t.Fatalf("%x decodes and encodes to %x", data, again)
		}
		got, err := base.Merge(fleet.Bundle{Logs: [][][]byte{{fleet.LogEntry(t, chain, nil, key(42), data, len(all))}}})
		if err != nil {
			return
		}
		for _, r := range got.Retentions() {
			if !slices.Equal(slices.Compact(slices.Sorted(slices.Values(r.On))), []string{"site=lab"}) {
				t.Errorf("an operator for one site keeps %v", r.On)
			}
		}
		if age, _ := got.Retention(id(22), "main"); age != fleet.DefaultMaxAge {
			t.Errorf("an operator for one site says %s for another", age)
		}
		if age, _ := got.Retention(id(21), "main"); age < fleet.MinMaxAge || age > fleet.MaxMaxAge {
			t.Errorf("held for %s", age)
		}
	})
}

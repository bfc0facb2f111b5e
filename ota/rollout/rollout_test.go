// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/rollout"
)

func id(i int) (d edge.ID) {
	binary.BigEndian.PutUint32(d[:], uint32(i)+1)
	return d
}

// devices makes n of them, every third one in the lab.
func devices(n int) (out []fleet.Grant) {
	for i := range n {
		g := fleet.Grant{Member: id(i), Name: fmt.Sprint("device-", i), Roles: fleet.Device}
		if i%3 == 0 {
			g.Labels = []string{"site=lab"}
		}
		out = append(out, g)
	}
	return out
}

func all(percent, healthy int, soak time.Duration) rollout.Wave {
	return rollout.Wave{On: []string{"*"}, Percent: percent, Healthy: healthy, Soak: soak.Milliseconds()}
}

func three(salt byte) rollout.Rollout {
	return rollout.Rollout{Channel: "stable", Release: "1.5.0", Previous: "1.4.0", Salt: [16]byte{salt}, Since: 1000,
		Waves: []rollout.Wave{{On: []string{"site=lab"}, Percent: 100, Healthy: 90, Soak: 60_000}, all(10, 90, time.Hour), all(100, 80, 0)}}
}

// TestWavesGrow: whatever the fleet, a wave holds all of those before it, about as many as it says, and at the end everybody.
func TestWavesGrow(t *testing.T) {
	fleetOf := devices(3000)
	for salt := range byte(5) {
		r := three(salt)
		in := map[edge.ID]bool{}
		for r.Reached = range r.Waves {
			n := 0
			for i := range fleetOf {
				reached := r.Reaches(&fleetOf[i])
				if in[fleetOf[i].Member] && !reached {
					t.Fatalf("salt %d: %s left at wave %d", salt, fleetOf[i].Name, r.Reached)
				}
				if reached {
					in[fleetOf[i].Member] = true
					n++
				}
			}
			switch want := []int{1000, 1200, 3000}[r.Reached]; {
			case r.Reached == 1 && (n < want-60 || n > want+60), r.Reached != 1 && n != want:
				t.Errorf("salt %d: wave %d reaches %d devices, want about %d", salt, r.Reached, n, want)
			}
		}
	}
}

// TestWhoIsFirstIsAnotherMatterEachTime: ten percent of two rollouts are not the same devices.
func TestWhoIsFirstIsAnotherMatterEachTime(t *testing.T) {
	both, a, b := 0, three(1), three(2)
	a.Waves, b.Waves = []rollout.Wave{all(10, 90, 0)}, []rollout.Wave{all(10, 90, 0)}
	for _, d := range devices(5000) {
		if a.Reaches(&d) && b.Reaches(&d) {
			both++
		}
	}
	if both < 20 || both > 90 { // 50 by chance
		t.Errorf("%d of 5000 devices are among the first of both", both)
	}
}

// TestNewDeviceJoinsTheWaveThatIsReached: nothing about a device is fixed when the rollout begins.
func TestNewDeviceJoinsTheWaveThatIsReached(t *testing.T) {
	r := three(1)
	lab := fleet.Grant{Member: id(9999), Name: "late", Labels: []string{"site=lab"}}
	if v, why := r.Wanted(&lab, "1.0.0"); v != "1.5.0" || why != "" {
		t.Errorf("in the lab: %q, %s", v, why)
	}
	other := fleet.Grant{Member: id(9999), Name: "late"}
	if v, why := r.Wanted(&other, "1.0.0"); v != "" || why != ota.ReasonWave {
		t.Errorf("elsewhere: %q, %s", v, why)
	}
	r.Reached = 2
	if v, _ := r.Wanted(&other, "1.0.0"); v != "1.5.0" {
		t.Errorf("in the last wave: %q", v)
	}
}

// TestWanted is every case of what a device decides.
func TestWanted(t *testing.T) {
	d := fleet.Grant{Member: id(1), Labels: []string{"site=lab"}}
	for name, c := range map[string]struct {
		runs         ota.Version
		paused, back bool
		want         ota.Version
		why          ota.Reason
	}{
		"older":              {"1.4.0", false, false, "1.5.0", ""},
		"newer goes back":    {"1.6.0", false, false, "1.5.0", ""},
		"there already":      {"1.5.0", false, false, "", ""},
		"paused":             {"1.4.0", true, false, "", ota.ReasonPaused},
		"paused, there":      {"1.5.0", true, false, "", ""},
		"back":               {"1.5.0", false, true, "1.4.0", ""},
		"back, paused too":   {"1.5.0", true, true, "1.4.0", ""},
		"back, never had it": {"1.3.0", false, true, "", ""},
	} {
		r := three(1)
		r.Paused, r.Back = c.paused, c.back
		if v, why := r.Wanted(&d, c.runs); v != c.want || why != c.why {
			t.Errorf("%s: %q, %q; want %q, %q", name, v, why, c.want, c.why)
		}
	}
}

// TestAdvance_NeverPastAnUnhealthyWave plays rollouts on fleets in which some devices fail, come late or have wrong clocks: no wave begins before the one before it
// had its share of healthy devices for its soak time, and one that can is not held up.
func TestAdvance_NeverPastAnUnhealthyWave(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		ds := devices(30 + rnd.IntN(100))
		r := three(byte(seed))
		for i := range r.Waves {
			r.Waves[i].Healthy, r.Waves[i].Soak = 50+rnd.IntN(51), rnd.Int64N(3_600_000)
		}
		seen := rollout.Seen{}
		said, healthySince := map[edge.ID]ota.Progress{}, map[edge.ID]int64{}
		fails := rnd.IntN(3) * rnd.IntN(30)
		now := r.Since
		for range 300 {
			now += 600_000
			for i := range ds {
				p, done := said[ds[i].Member]
				if done || !r.Reaches(&ds[i]) || rnd.IntN(5) > 0 {
					continue
				}
				p = ota.Progress{Version: "1.5.0", Stage: ota.Committed, At: now}
				switch {
				case rnd.IntN(100) < fails:
					p = ota.Progress{Version: "1.4.0", Wanted: "1.5.0", Stage: ota.RolledBack, Reason: ota.ReasonCrashed, At: now}
				case rnd.IntN(10) == 0:
					p.At = rnd.Int64N(2) * (now + 1e9) // no clock, or a wrong one
				}
				if said[ds[i].Member] = p; p.Stage == ota.Committed {
					healthySince[ds[i].Member] = now
				}
			}
			dated := maps.Clone(said)
			seen.Date(dated, now)
			tally := r.Count(ds, dated, now)
			next, moved, why := r.Advance(tally, time.UnixMilli(now))
			reached, healthy := 0, 0
			for i := range ds {
				if r.Reaches(&ds[i]) {
					reached++
					if at, ok := healthySince[ds[i].Member]; ok && at <= now {
						healthy++
					}
				}
			}
			enough := healthy*100 >= reached*r.Waves[r.Reached].Healthy
			if moved && !enough || moved && now-r.Since < r.Waves[r.Reached].Soak {
				t.Fatalf("seed %d: wave %d began with %d of %d healthy, after %d ms: %s", seed, next.Reached, healthy, reached, now-r.Since, why)
			}
			if moved && next.Reached != r.Reached+1 || !moved && !reflect.DeepEqual(next, r) {
				t.Fatalf("seed %d: %+v became %+v", seed, r, next)
			}
			r = next
		}
		if fails == 0 && r.Reached != 2 {
			t.Errorf("seed %d: nobody failed, and wave %d is the last", seed, r.Reached)
		}
	}
}

// TestAdvanceSays tells people what it waits for.
func TestAdvanceSays(t *testing.T) {
	ds := devices(30) // ten in the lab
	ok := func(n int, at int64) map[edge.ID]ota.Progress {
		m := map[edge.ID]ota.Progress{}
		for i := range n {
			m[id(3*i)] = ota.Progress{Version: "1.5.0", Stage: ota.Idle, At: at}
		}
		return m
	}
	bad := ok(7, 1000)
	for i := 7; i < 10; i++ {
		bad[id(3*i)] = ota.Progress{Version: "1.4.0", Wanted: "1.5.0", Stage: ota.RolledBack}
	}
	for name, c := range map[string]struct {
		said  map[edge.ID]ota.Progress
		now   int64
		turn  func(*rollout.Rollout)
		moved bool
		why   string
	}{
		"nobody yet": {nil, 2000, nil, false, "0 of 10 devices run it, 9 must"},
		"soaking":    {ok(9, 2000), 32_000, nil, false, "healthy, 30s of 1m0s"},
		"moves":      {ok(9, 2000), 62_000, nil, true, "wave 2 of 3 begins"},
		"too many failed": {bad, 1e9, nil, false,
			"3 of 10 devices failed: it goes no further until an operator looks"},
		"paused": {ok(10, 1), 1e9, func(r *rollout.Rollout) { r.Paused = true }, false, "it is paused"},
		"back":   {ok(10, 1), 1e9, func(r *rollout.Rollout) { r.Back = true }, false, "it goes back to 1.4.0"},
	} {
		r := three(1)
		if c.turn != nil {
			c.turn(&r)
		}
		if _, moved, why := r.Advance(r.Count(ds, c.said, c.now), time.UnixMilli(c.now)); moved != c.moved || why != c.why {
			t.Errorf("%s: %v, %q", name, moved, why)
		}
	}
}

// TestRefused: what cannot be meant is neither written nor read.
func TestRefused(t *testing.T) {
	for name, spoil := range map[string]func(*rollout.Rollout){
		"channel":     func(r *rollout.Rollout) { r.Channel = "Two Words" },
		"version":     func(r *rollout.Rollout) { r.Release = "v1" },
		"previous":    func(r *rollout.Rollout) { r.Previous = "1" },
		"same":        func(r *rollout.Rollout) { r.Previous = r.Release },
		"no way back": func(r *rollout.Rollout) { r.Previous, r.Back = "", true },
		"no wave":     func(r *rollout.Rollout) { r.Waves = nil },
		"many waves":  func(r *rollout.Rollout) { r.Waves = make([]rollout.Wave, 33) },
		"reached":     func(r *rollout.Rollout) { r.Reached = 3 },
		"nobody":      func(r *rollout.Rollout) { r.Waves[0].On = nil },
		"selector":    func(r *rollout.Rollout) { r.Waves[0].On = []string{"a\nb"} },
		"percent":     func(r *rollout.Rollout) { r.Waves[0].Percent = 0 },
		"healthy":     func(r *rollout.Rollout) { r.Waves[0].Healthy = 101 },
		"soak":        func(r *rollout.Rollout) { r.Waves[0].Soak = -1 },
		"note":        func(r *rollout.Rollout) { r.Note = strings.Repeat("x", 201) },
	} {
		r := three(1)
		spoil(&r)
		if _, err := r.Encode(); !errors.Is(err, rollout.ErrBadRollout) {
			t.Errorf("%s: writing: %v", name, err)
		}
		raw, err := journal.Encode(&r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rollout.Parse(r.Channel, raw); err == nil {
			t.Errorf("%s: reading: taken", name)
		}
	}
	r := three(1)
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rollout.Parse("beta", raw); !errors.Is(err, rollout.ErrBadRollout) {
		t.Errorf("another channel's: %v", err)
	}
}

// FuzzParse: what is accepted has one encoding, and decides about any device without trouble.
func FuzzParse(f *testing.F) {
	r := three(1)
	raw, err := r.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := rollout.Parse("stable", in)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, in) {
			t.Fatalf("%x became %x: %v", in, again, err)
		}
		ds := devices(4)
		for i := range ds {
			if v, _ := r.Wanted(&ds[i], r.Release); v != "" && v != r.Previous {
				t.Fatalf("who runs it wants %q", v)
			}
		}
		tally := r.Count(ds, nil, 5000)
		if next, moved, _ := r.Advance(tally, time.UnixMilli(5000)); moved && tally.Reached > 0 || next.Reached >= len(next.Waves) {
			t.Fatalf("moved to wave %d of %d", next.Reached, len(next.Waves))
		}
	})
}

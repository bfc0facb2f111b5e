// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/rules"
)

func parse(t testing.TB, text string) rules.Rule {
	t.Helper()
	r, err := rules.Parse("r", text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	got := parse(t, `when bme280/temperature > 30 and door/contact == on for 60 s then set relay/switch on for 5m and call horn/sound tone=440 text="two words" at garage otherwise set relay/switch off`)
	want := rules.Rule{Name: "r", Text: got.Text,
		When: []rules.Condition{{Of: "bme280/temperature", Is: ">", Value: 30.0}, {Of: "door/contact", Is: "==", Value: true}}, For: time.Minute,
		Then: []rules.Act{{Set: true, Name: "relay/switch", Value: true, For: 5 * time.Minute},
			{Name: "horn/sound", Args: map[string]rules.Value{"tone": 440.0, "text": "two words"}, Device: "garage"}},
		Otherwise: []rules.Act{{Set: true, Name: "relay/switch", Value: false}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for text, says := range map[string]string{
		"":                                                       "begins with",
		"if a/b > 1 then set c/d on":                             "begins with \"if\"",
		"when a > 1 then set c/d on":                             "want SENSOR/QUANTITY",
		"when a/b ~ 1 then set c/d on":                           "want one of",
		"when a/b > on then set c/d on":                          "numbers only",
		"when a/b > 1 for 0s then set c/d on":                    "duration",
		"when a/b > 1 for 25h then set c/d on":                   "duration",
		"when a/b > 1 set c/d on":                                "where then should be",
		"when a/b > 1 then push c/d on":                          "want set or call",
		"when a/b > 1 then set c/d":                              "a value",
		"when a/b > 1 then set c/d on or":                        "too much",
		"when a/b > 1 then call x y=1 y=2":                       "each argument once",
		"when a/b > 1 then call x for 5s":                        "only set takes for",
		`when a/b == "x then set c/d on`:                         "quote",
		"when a/b > 1 then set c/d on at":                        "a device",
		"when " + strings.Repeat("a/b > 1 and ", 9):              "more than 8",
		"when a/b > 1 then set c/d " + strings.Repeat("x", 1000): "at most",
	} {
		if _, err := rules.Parse("r", text); !errors.Is(err, rules.ErrSyntax) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v: want it to say %q", text, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`when a/b > 1 and c/d == "x y" for 5s then set e/f on for 2s at g and call h i=1 otherwise set e/f off`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := rules.Parse("r", text)
		if err != nil {
			return
		}
		if len(r.When) == 0 || len(r.Then) == 0 {
			t.Fatalf("%q: an empty rule: %+v", text, r)
		}
		if again, err := rules.Parse("r", strings.Join(strings.Fields(text), " ")); err == nil && !strings.Contains(text, `"`) && !reflect.DeepEqual(again.When, r.When) {
			t.Fatalf("%q: spaces change its meaning: %+v and %+v", text, r, again)
		}
	})
}

var (
	warmth  = edge.Quantity{Name: "temperature", Unit: "Cel"}
	onOff   = edge.Quantity{Name: "switch", Kind: edge.State}
	sources = []rules.Source{{Name: "air", Measures: []edge.Quantity{warmth}},
		{Name: "relay", Measures: []edge.Quantity{onOff}, Outputs: []edge.Quantity{onOff}}, {Name: "lamp", Measures: []edge.Quantity{onOff}, Outputs: []edge.Quantity{onOff}}}
)

func TestCheck(t *testing.T) {
	good := []rules.Rule{parse(t, "when air/temperature > 30 then set relay on")}
	if err := rules.Check(good, sources); err != nil || good[0].Then[0].Name != "relay/switch" {
		t.Errorf("%v %+v", err, good[0].Then)
	}
	for text, says := range map[string]string{
		"when wind/speed > 3 then set relay on":             "no sensor \"wind\": it has air, relay, lamp",
		"when air/humidity > 3 then set relay on":           "does not measure \"humidity\": it measures temperature",
		"when air/temperature == on then set relay on":      "want a number Cel",
		"when air/temperature > 30 then set air on":         "no output \"air\"",
		"when air/temperature > 30 then set relay/power on": "relay has switch",
		"when air/temperature > 30 then set relay 3":        "want on or off",
		"when relay/switch == on then set relay off":        "r → r",
	} {
		if err := rules.Check([]rules.Rule{parse(t, text)}, sources); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v: want it to say %q", text, err, says)
		}
	}
	a, b := parse(t, "when relay/switch == on then set lamp on"), parse(t, "when lamp/switch == on then set relay off")
	a.Name, b.Name = "a", "b"
	if err := rules.Check([]rules.Rule{a, b}, sources); err == nil || !strings.Contains(err.Error(), "a → b → a") {
		t.Errorf("a circle: %v", err)
	}
	if err := rules.Check([]rules.Rule{a, a}, sources); err == nil {
		t.Error("two rules of one name")
	}
}

// hands does what rules want, and fails as often as it is told.
type hands struct {
	mu    sync.Mutex
	fail  int
	did   []string
	ids   [][16]byte
	delay time.Duration
}

func (h *hands) Do(ctx context.Context, id [16]byte, a rules.Act) error {
	select {
	case <-time.After(h.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids = append(h.ids, id)
	if h.fail > 0 {
		h.fail--
		return errors.New("stuck")
	}
	h.did = append(h.did, a.String())
	return nil
}

func (h *hands) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.did)
}

// world runs a test in virtual time with one rule.
func world(t *testing.T, text string, test func(*testing.T, *hands, *rules.Engine, func(v float64))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &hands{}
		e := rules.New([]rules.Rule{parse(t, text)}, rules.Options{Do: h, Interval: func(string) time.Duration { return 10 * time.Second }})
		defer func() { _ = e.Close() }()
		began := time.Now()
		test(t, h, e, func(v float64) {
			e.Offer([]edge.Reading{{Sensor: "air", Sample: edge.Sample{Quantity: warmth, Value: v}, At: edge.Instant{Mono: time.Since(began).Milliseconds() + 1}}})
			synctest.Wait()
		})
	})
}

const thermostat = "when air/temperature > 30 for 60s then set relay/switch on otherwise set relay/switch off"

// TestFiresOnceAfterHolding, and again only after the conditions did not hold.
func TestFiresOnceAfterHolding(t *testing.T) {
	world(t, thermostat, func(t *testing.T, h *hands, e *rules.Engine, read func(float64)) {
		read(31)
		time.Sleep(30 * time.Second)
		read(31)
		time.Sleep(10 * time.Second)
		read(29) // not long enough
		for range 6 {
			time.Sleep(10 * time.Second)
			read(31)
		}
		if got := h.all(); len(got) != 0 {
			t.Fatalf("after 50 s: %v", got)
		}
		if s := e.Status()[0]; s.State != "holding" {
			t.Errorf("%+v", s)
		}
		for range 5 {
			time.Sleep(10 * time.Second)
			read(31)
		}
		if got := h.all(); !slices.Equal(got, []string{"set relay/switch true"}) {
			t.Fatalf("after 100 s: %v", got)
		}
		time.Sleep(10 * time.Second)
		read(30)
		if got := h.all(); !slices.Equal(got, []string{"set relay/switch true", "set relay/switch false"}) {
			t.Fatalf("after it was over: %v", got)
		}
		if s := e.Status()[0]; s.State != "waiting" || s.Fired != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStale: what a sensor gave before it fell silent does not count as held all the while.
func TestStale(t *testing.T) {
	world(t, thermostat, func(t *testing.T, h *hands, _ *rules.Engine, read func(float64)) {
		read(31)
		time.Sleep(10 * time.Minute)
		read(31)
		if got := h.all(); len(got) != 0 {
			t.Errorf("nobody knows what it would have given for 10 min, and yet: %v", got)
		}
		for range 6 {
			time.Sleep(10 * time.Second)
			read(31)
		}
		if got := h.all(); len(got) != 1 {
			t.Errorf("after a minute of readings: %v", got)
		}
	})
}

// TestFlood: a rule that flutters rests, and says so.
func TestFlood(t *testing.T) {
	world(t, "when air/temperature > 30 then set relay/switch on", func(t *testing.T, h *hands, e *rules.Engine, read func(float64)) {
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			read(31)
			time.Sleep(100 * time.Millisecond)
			read(29)
		}
		if got := h.all(); len(got) < 6 || len(got) > 8 {
			t.Errorf("acted %d times in 20 s", len(got))
		}
		if s := e.Status()[0]; s.State != "resting" || s.Error == "" {
			t.Errorf("%+v", s)
		}
		time.Sleep(11 * time.Minute)
		before := len(h.all())
		read(31)
		if len(h.all()) != before+1 {
			t.Error("it does not come back")
		}
	})
}

// TestTriesAgain with the same id, so that nothing is done twice.
func TestTriesAgain(t *testing.T) {
	world(t, "when air/temperature > 30 then set relay/switch on", func(t *testing.T, h *hands, e *rules.Engine, read func(float64)) {
		h.fail = 2
		read(31)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := h.all(); len(got) != 1 || len(h.ids) != 3 || h.ids[0] != h.ids[2] {
			t.Errorf("did %v in %d tries", got, len(h.ids))
		}
		h.fail = 100
		read(29)
		read(31)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := e.Status()[0]; !strings.Contains(s.Error, "stuck") || len(h.ids) != 6 {
			t.Errorf("%+v after %d tries", s, len(h.ids))
		}
	})
}

// TestSlowActHoldsNothingUp: readings are judged while an act is under way, and Close ends it.
func TestSlowActHoldsNothingUp(t *testing.T) {
	world(t, "when air/temperature > 30 then set relay/switch on", func(t *testing.T, h *hands, e *rules.Engine, read func(float64)) {
		h.delay = time.Hour
		began := time.Now()
		read(31)
		read(29)
		read(31)
		if time.Since(began) != 0 {
			t.Errorf("readings waited %s", time.Since(began))
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		read(31)
	})
}

// across does what the rule of one device wants on the other one, whose output is a sensor there.
type across struct {
	mu    sync.Mutex
	began time.Time
	acts  int
	other *rules.Engine
}

func (a *across) Do(_ context.Context, _ [16]byte, act rules.Act) error {
	time.Sleep(10 * time.Millisecond) // the way there
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acts++
	value := 0.0
	if act.Value == true {
		value = 1
	}
	a.other.Offer([]edge.Reading{{Sensor: "lamp", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.State}, Value: value},
		At: edge.Instant{Mono: time.Since(a.began).Milliseconds() + 1}}})
	return nil
}

// TestLoopAcrossDevices: two devices whose rules drive each other in a circle, which neither config shows, calm down by themselves instead of switching for ever.
func TestLoopAcrossDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ways := [2]*across{{began: time.Now()}, {began: time.Now()}}
		var engines [2]*rules.Engine
		for i, text := range []string{"when lamp/switch == on then set lamp/switch on at b otherwise set lamp/switch off at b",
			"when lamp/switch == on then set lamp/switch off at a otherwise set lamp/switch on at a"} {
			engines[i] = rules.New([]rules.Rule{parse(t, text)}, rules.Options{Do: ways[i], Interval: func(string) time.Duration { return time.Minute }})
			defer func() { _ = engines[i].Close() }()
		}
		ways[0].other, ways[1].other = engines[1], engines[0]
		engines[0].Offer([]edge.Reading{{Sensor: "lamp", Sample: edge.Sample{Quantity: edge.Quantity{Name: "switch", Kind: edge.State}, Value: 1}, At: edge.Instant{Mono: 1}}})
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		ways[0].mu.Lock()
		defer ways[0].mu.Unlock()
		if n := ways[0].acts; n < 3 || n > 40 {
			t.Errorf("%d acts in 9 minutes: want a few, and then none", n)
		}
		if a, b := engines[0].Status()[0], engines[1].Status()[0]; a.State != "resting" && b.State != "resting" {
			t.Errorf("neither rests: %+v, %+v", a, b)
		}
	})
}

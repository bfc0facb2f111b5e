// SPDX-License-Identifier: Apache-2.0

package sensorstest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/sensors"
)

// actuator connects the case's Actuator; nil if the driver is none.
func actuator(t *testing.T, c Case) (sensors.Actuator, *tap) {
	t.Helper()
	s, tapped := mustConnect(t, c)
	a, ok := s.(sensors.Actuator)
	if ok != (len(c.Driver.Actions) > 0) || ok != (len(c.Sets) > 0) {
		t.Errorf("Set is there: %t; Driver.Actions %v, Case.Sets %v: all three or none", ok, c.Driver.Actions, c.Sets)
	}
	if !ok {
		closeSensor(t, s)
		return nil, nil
	}
	return a, tapped
}

// values reads the actuator's state by name.
func values(t *testing.T, a sensors.Actuator) map[string]float64 {
	t.Helper()
	samples, err := a.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]float64, len(samples))
	for _, s := range samples {
		m[s.Name] = s.Value
	}
	return m
}

// checkActuator sets each quantity to and fro: Read agrees, and nothing else changes. What Set does not know it refuses without touching anything.
func checkActuator(t *testing.T, c Case) {
	a, tapped := actuator(t, c)
	if a == nil {
		return
	}
	defer closeSensor(t, a)
	for _, q := range c.Sets {
		if !c.Driver.CanSet(q) || q.Kind != edge.State {
			t.Errorf("%+v is not in Actions, or no State", q)
		}
		for _, value := range []float64{1, 0, 0, 1} {
			want := values(t, a)
			want[q.Name] = value
			if err := a.Set(t.Context(), sensors.Of(q, value)); err != nil {
				t.Fatalf("Set %s to %v: %v", q.Name, value, err)
			}
			if got := values(t, a); !reflect.DeepEqual(got, want) {
				t.Errorf("after Set %s to %v Read returns %v, want %v", q.Name, value, got, want)
			}
		}
	}
	before, used := values(t, a), tapped.used()
	for _, s := range strangers(c.Sets[0]) {
		if err := a.Set(t.Context(), s); err == nil || !strings.Contains(err.Error(), c.Driver.Name) {
			t.Errorf("Set took %+v, or does not name the driver: %v", s, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Set(ctx, sensors.Of(c.Sets[0], 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Set with a cancelled context: %v", err)
	}
	if got := tapped.used(); got != used {
		t.Errorf("%d transactions for what Set has to refuse", got-used)
	}
	if got := values(t, a); !reflect.DeepEqual(got, before) {
		t.Errorf("what Set has to refuse changed %v to %v", before, got)
	}
}

// strangers are samples that no Set takes.
func strangers(q edge.Quantity) []edge.Sample {
	other, unit, kind := q, q, q
	other.Name, unit.Unit, kind.Kind = q.Name+".no-such", "V", edge.Gauge
	return []edge.Sample{
		sensors.Of(other, 1), sensors.Of(unit, 1), sensors.Of(kind, 1), {}, sensors.Of(sensors.Temperature, 1),
		sensors.Of(q, 2), sensors.Of(q, 0.5), sensors.Of(q, -1), sensors.Of(q, math.NaN()),
	}
}

// checkFailingSet lets each transaction of a Set fail in turn: it says so, and works again when the bus does.
func checkFailingSet(t *testing.T, c Case) {
	a, tapped := actuator(t, c)
	if a == nil {
		return
	}
	defer closeSensor(t, a)
	last := c.Sets[len(c.Sets)-1]
	before := tapped.used()
	if err := a.Set(t.Context(), sensors.Of(last, 1)); err != nil {
		t.Fatal(err)
	}
	n := tapped.used() - before
	if n == 0 {
		t.Fatal("Set does nothing")
	}
	for i := range n {
		value := float64(i % 2)
		tapped.failAt(i)
		err := a.Set(t.Context(), sensors.Of(last, value))
		checkRefused(t, c, fmt.Sprintf("Set, transaction %d of %d", i, n), nil, err, errInjected)
		tapped.heal()
		if err := a.Set(t.Context(), sensors.Of(last, value)); err != nil {
			t.Errorf("after the failed transaction %d Set does not recover: %v", i, err)
		}
		if got := values(t, a)[last.Name]; got != value {
			t.Errorf("after the failed transaction %d and a Set to %v, Read returns %v", i, value, got)
		}
	}
}

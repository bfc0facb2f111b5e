// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge"
)

// Source is one sensor of the device, as far as rules can speak of it. A quantity also stands for those whose name goes on after a dot.
type Source struct {
	Name     string
	Measures []edge.Quantity
	Outputs  []edge.Quantity // what it can be told; none = it is no actuator
}

// Check says what in the rules cannot work on a device with these sensors: names, kinds of values, rules that act on what they watch, alone or in a
// circle. It completes names of outputs that leave the only quantity out.
func Check(all []Rule, sources []Source) error {
	var errs []error
	seen := map[string]bool{}
	for i := range all {
		r := &all[i]
		if r.Name == "" || seen[r.Name] {
			errs = append(errs, fmt.Errorf("rules: rule %q: want a name that no other rule has", r.Name))
		}
		seen[r.Name] = true
		for _, c := range r.When {
			errs = append(errs, c.check(r, sources))
		}
		for _, list := range [][]Act{r.Then, r.Otherwise} {
			for k := range list {
				errs = append(errs, list[k].check(r, sources))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return circle(all)
}

func (c *Condition) check(r *Rule, sources []Source) error {
	sensor, quantity, _ := strings.Cut(c.Of, "/")
	i := slices.IndexFunc(sources, func(s Source) bool { return s.Name == sensor })
	if i < 0 {
		return fmt.Errorf("rules: rule %q: no sensor %q: it has %s", r.Name, sensor, names(sources))
	}
	q, ok := find(sources[i].Measures, quantity)
	if !ok {
		return fmt.Errorf("rules: rule %q: sensor %s does not measure %q: it measures %s", r.Name, sensor, quantity, quantities(sources[i].Measures))
	}
	if !fits(c.Value, q) {
		return fmt.Errorf("rules: rule %q: %s is compared with %v: want %s", r.Name, c.Of, c.Value, wanted(q))
	}
	return nil
}

// check judges an act on this device; of others only they know what they can do.
func (a *Act) check(r *Rule, sources []Source) error {
	if a.Device != "" || !a.Set {
		return nil
	}
	sensor, quantity, full := strings.Cut(a.Name, "/")
	i := slices.IndexFunc(sources, func(s Source) bool { return s.Name == sensor && len(s.Outputs) > 0 })
	if i < 0 {
		return fmt.Errorf("rules: rule %q: no output %q", r.Name, a.Name)
	}
	outputs := sources[i].Outputs
	if !full && len(outputs) == 1 {
		quantity = outputs[0].Name
		a.Name = sensor + "/" + quantity
	}
	q, ok := find(outputs, quantity)
	if !ok {
		return fmt.Errorf("rules: rule %q: output %q: %s has %s", r.Name, a.Name, sensor, quantities(outputs))
	}
	if !fits(a.Value, q) {
		return fmt.Errorf("rules: rule %q: %s is set to %v: want %s", r.Name, a.Name, a.Value, wanted(q))
	}
	return nil
}

func find(list []edge.Quantity, name string) (edge.Quantity, bool) {
	for _, q := range list {
		if name == q.Name || strings.HasPrefix(name, q.Name+".") {
			return q, true
		}
	}
	return edge.Quantity{}, false
}

func fits(v Value, q edge.Quantity) bool {
	switch v.(type) {
	case bool:
		return q.Kind == edge.State
	case string:
		return q.Kind == edge.Text
	}
	return q.Kind != edge.Text && q.Kind != edge.State
}

func wanted(q edge.Quantity) string {
	switch q.Kind {
	case edge.State:
		return "on or off"
	case edge.Text:
		return "a text"
	}
	return strings.TrimSpace("a number " + q.Unit)
}

func names(sources []Source) string {
	var out []string
	for _, s := range sources {
		out = append(out, s.Name)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

func quantities(list []edge.Quantity) string {
	var out []string
	for _, q := range list {
		out = append(out, q.Name)
	}
	return strings.Join(out, ", ")
}

// circle refuses rules that would set each other off: each watches what the one before it sets.
func circle(all []Rule) error {
	state := make([]int, len(all)) // 1 = on the way, 2 = done
	var walk func(i int, path []string) error
	walk = func(i int, path []string) error {
		path = append(path, all[i].Name)
		if state[i] == 1 {
			return fmt.Errorf("rules: %s: each acts on what the next one watches: they would never rest", strings.Join(path, " → "))
		}
		if state[i] == 2 {
			return nil
		}
		state[i] = 1
		for k := range all {
			if all[i].feeds(&all[k]) {
				if err := walk(k, path); err != nil {
					return err
				}
			}
		}
		state[i] = 2
		return nil
	}
	for i := range all {
		if err := walk(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// feeds reports whether a rule sets on this device what another one watches.
func (r *Rule) feeds(o *Rule) bool {
	return slices.ContainsFunc(slices.Concat(r.Then, r.Otherwise), func(a Act) bool {
		return a.Device == "" && slices.ContainsFunc(o.When, func(c Condition) bool { return c.Of == a.Name })
	})
}

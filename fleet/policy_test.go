// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
)

// TestPolicy_OperatorAsItsOwnExecutor: an operator that carries out its own policy is bound by it and by its own rights.
func TestPolicy_OperatorAsItsOwnExecutor(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "enrol device on site=lab")), operator(42)))(t)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(41), Roles: fleet.Device, Labels: []string{"site=lab"}, Uses: 1, Expires: now.Add(time.Hour).UnixMilli()}
	f = must(f.Append(by(41), now, fleet.Entry{Policy: &p}))(t)
	newcomer := func(seed byte) fleet.Grant {
		g := labelled(seed, "site=lab")
		g.Token = p.ID
		return g
	}
	f = must(f.Grant(by(41), now, newcomer(21)))(t)
	if _, err := f.Grant(by(41), now, newcomer(22)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("more than its uses: %v", err)
	}
	wide := p
	wide.ID, wide.Labels = fleet.TokenID{2}, []string{"site=barn"}
	if _, err := f.Append(by(41), now, fleet.Entry{Policy: &wide}); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a policy beyond its rights: %v", err)
	}
	foreign := p
	foreign.ID, foreign.Executor = fleet.TokenID{3}, id(42)
	if _, err := f.Append(by(41), now, fleet.Entry{Policy: &foreign}); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("another operator as executor: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/streembit/edge/direct"
)

// TestReorder: requests that come in another order than they were made in are each done once and told by their ids, and a late retry of an older one does not undo
// a newer one.
func TestReorder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		end, _ := w.serve(operator.ID())
		wr := wire{t, end}
		wr.greet()
		on, off := direct.NewID(), direct.NewID()
		ask := func(wr wire, id direct.RequestID, value bool) {
			wr.send('Q', []any{id, uint64(direct.Set), "relay/switch", 1000, value, []byte{}})
			if r := wr.wantResult(id, 0); r.Value != value {
				t.Errorf("told %v of the request to set %v", r.Value, value)
			}
		}
		want := func(state ...string) {
			t.Helper()
			w.doer.mu.Lock()
			defer w.doer.mu.Unlock()
			if !slices.Equal(w.doer.set, state) {
				t.Fatalf("set to %v, want %v", w.doer.set, state)
			}
		}
		ask(wr, on, true)
		ask(wr, off, false)
		ask(wr, off, false) // retries, the older one last
		ask(wr, on, true)
		want("true", "false")
		again, _ := w.serve(operator.ID())
		other := wire{t, again}
		other.greet()
		ask(other, on, true)
		want("true", "false")
	})
	t.Run("before the session is open", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, w *world) {
			end, _ := w.serve(operator.ID())
			wr := wire{t, end}
			wr.recv()
			wr.send('Q', []any{direct.NewID(), uint64(direct.Set), "relay/switch", 1000, true, []byte{}})
			wr.wantEnd(direct.BadRequest)
			if n := w.doer.times(); n != 0 {
				t.Error(fmt.Sprint(n, " done"))
			}
		})
	})
}

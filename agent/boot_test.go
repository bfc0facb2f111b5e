// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/agent"
)

// TestBoot_RunsAgree: runs of the program in one boot count from the same moment, as exactly as the kernel tells it (10 ms), however busy the machine is. Else
// what one run measured last and the next one first would seem to be at one time.
func TestBoot_RunsAgree(t *testing.T) {
	id, up, at, err := agent.Boot("/")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		again, nextUp, nextAt, err := agent.Boot("/")
		if err != nil || again != id {
			t.Fatalf("boot %s, then %s: %v", id, again, err)
		}
		if off := (nextUp - up) - nextAt.Sub(at); off.Abs() > 15*time.Millisecond {
			t.Errorf("two runs are %s apart", off)
		}
	}
}

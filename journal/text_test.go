// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"encoding/json"
	"testing"

	"github.com/streembit/edge/journal"
)

// TestBootIDText: what a program writes into its status as JSON, another reads.
func TestBootIDText(t *testing.T) {
	want := journal.BootID{1, 2, 0xfe, 15: 0xff}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `"0102fe000000000000000000000000ff"` {
		t.Fatalf("%s %v", text, err)
	}
	var got journal.BootID
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{`""`, `"0102"`, `"0102fe000000000000000000000000ff00"`, `"zz02fe000000000000000000000000ff"`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

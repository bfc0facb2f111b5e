// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// testTime is when everything in the tests happens.
var testTime = time.UnixMilli(1_760_000_000_000)

// Next is the state's successor, without changes.
func (f *Fleet) Next(t testing.TB) State {
	t.Helper()
	return f.next(testTime)
}

// Parts is the bundle that was proven.
func (f *Fleet) Parts() Bundle { return f.bundle() }

// LogChain names the owner's log.
func (f *Fleet) LogChain() journal.Chain { return f.ownerChain() }

// SignAny signs any state, valid or not, as an owner that does not keep the rules could.
func SignAny(t testing.TB, signer journal.Signer, state any) []byte {
	t.Helper()
	payload, err := journal.Encode(state)
	if err != nil {
		t.Fatal(err)
	}
	return SignPayload(t, signer, payload)
}

// SignPayload is SignAny for bytes.
func SignPayload(t testing.TB, signer journal.Signer, payload []byte) []byte {
	t.Helper()
	signed, err := journal.SignRecord(signer, journal.TypeState, payload)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// LogEntry makes the segment that follows log in chain, with any payload.
func LogEntry(t testing.TB, chain journal.Chain, log [][]byte, signer journal.Signer, payload []byte, count int) []byte {
	t.Helper()
	var tip *journal.Link
	if len(log) > 0 {
		s, err := journal.Open(log[len(log)-1], chain.Fleet)
		if err != nil {
			t.Fatal(err)
		}
		l := s.Link()
		tip = &l
	}
	w, err := journal.ResumeWriter(chain, tip, signer)
	if err != nil {
		t.Fatal(err)
	}
	seg, err := w.Plain(payload, count, journal.Stamp{At: edge.Instant{Wall: testTime.UnixMilli()}})
	if err != nil {
		t.Fatal(err)
	}
	return seg.Bytes()
}

// Covers and Allows are the two questions about rights.
func Covers(rights []Right, given Right) bool { return covers(rights, given) }

// Allows is what May asks about the rights of a grant.
func Allows(rights []Right, do Verb, on *Grant, what string) bool {
	return allows(rights, do, on, what)
}

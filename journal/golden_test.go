// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

const goldenWall = 1_760_000_000_000 // wall time at boot of the golden device

func goldenReadings() []edge.Reading { return weather(12, goldenWall) }

var goldenNote = journal.Note{Clock: &journal.ClockNote{Boot: testBoot, Mono: 5000, Wall: goldenWall + 5000}}

// recordGolden makes the files anew. Epoch keys and their wraps are random, so all of them change.
func recordGolden(t *testing.T) {
	t.Helper()
	w, epoch := newWriter(t)
	data := commit(t, w)(w.Readings(testBoot, goldenReadings()))
	note := commit(t, w)(w.Note(goldenNote, stamp(3_700_000, goldenWall+3_700_000)))
	record(t, "epoch", epoch.Bytes())
	record(t, "readings", data.Bytes())
	record(t, "header", data.SignedHeader())
	record(t, "note", note.Bytes())
	record(t, "rewrap", rewraps(t, epoch).Bytes())
}

// goldenSegments opens the recorded segments: epoch, readings, note.
func goldenSegments(t testing.TB) []*journal.Segment {
	t.Helper()
	var out []*journal.Segment
	for i, name := range []string{"epoch", "readings", "note"} {
		s, err := journal.OpenFrom(golden(t, name), testChain(1), uint64(i))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, s)
	}
	return out
}

func TestGolden_SegmentsOpenWithTheRecordedKeys(t *testing.T) {
	if *update {
		recordGolden(t)
	}
	s := goldenSegments(t)
	if !bytes.Equal(golden(t, "header"), s[1].SignedHeader()) {
		t.Error("the signed header of the readings segment is not header.golden")
	}
	var tip *journal.Link
	for _, seg := range s {
		if err := tip.Check(&seg.Header); err != nil {
			t.Fatal(err)
		}
		l := seg.Link()
		tip = &l
	}
	for _, seed := range []byte{8, 9} {
		k := journal.NewKeyring(testReader(t, seed))
		if after, err := k.Learn(s[0]); err != nil || after != nil {
			t.Fatal(after, err)
		}
		got, err := k.Readings(s[1])
		if err != nil || !reflect.DeepEqual(got, goldenReadings()) {
			t.Errorf("reader %d: readings %v, %v", seed, got, err)
		}
		note, err := k.Note(s[2])
		if err != nil || !reflect.DeepEqual(note, goldenNote) {
			t.Errorf("reader %d: note %+v, %v", seed, note, err)
		}
	}
}

func TestGolden_RewrapOpensTheRecordedReadings(t *testing.T) {
	s := goldenSegments(t)
	seg, err := journal.Open(golden(t, "rewrap"), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	if again := journal.Forge(testKey(2), seg.Header, seg.Plain()); !bytes.Equal(again, seg.Bytes()) {
		t.Errorf("the rewrap is encoded differently:\n%x\n%x", again, seg.Bytes())
	}
	list, err := seg.Rewraps()
	if err != nil {
		t.Fatal(err)
	}
	k := journal.NewKeyring(testReader(t, 7))
	if err := k.LearnRewrap(s[0], testKey(2).ID(), list[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Readings(s[1]); err != nil || !reflect.DeepEqual(got, goldenReadings()) {
		t.Errorf("readings %v, %v", got, err)
	}
}

// Ed25519 signs deterministically, so a header that is encoded and signed again must give the recorded bytes.
func TestGolden_ReencodesToTheSameBytes(t *testing.T) {
	for i, s := range goldenSegments(t) {
		if again := journal.Forge(testKey(1), s.Header, s.Plain()); !bytes.Equal(again, s.Bytes()) {
			t.Errorf("segment %d is encoded differently:\n%x\n%x", i, again, s.Bytes())
		}
	}
}

func TestGolden_KeysInHashSpace(t *testing.T) {
	c := testChain(1)
	if got, want := c.Key().String(), "4655bc7f10546693ac95691ec346560734986d65d44b4d78798d65f84bb727f4"; got != want {
		t.Errorf("chain key %s, want %s", got, want)
	}
	b := c.Bucket(130)
	first, last := b.Range()
	if b.Index != 2 || first != 128 || last != 191 {
		t.Errorf("bucket of seq 130: %d, %d to %d", b.Index, first, last)
	}
	if got, want := b.Key().DHTName(), "oiw5cfxi35wbvkitgmxmq7uagslccdigi62jajirm2irpk6sudzq"; got != want {
		t.Errorf("bucket's DHT name %s, want %s", got, want)
	}
}

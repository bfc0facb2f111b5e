// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

var (
	begin  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	inLab  = journal.FleetID{7}
	someIP = "/ip4/192.0.2.%d/tcp/40000"
)

func claimOf(n int, name string, at time.Time) enroll.Waiting {
	c := enroll.Claim{Fleet: inLab, Name: name}
	c.Device[0], c.Device[1] = byte(n), byte(n>>8)
	return enroll.Waiting{Claim: c, Addr: fmt.Sprintf(someIP, n%200), At: at.UnixMilli()}
}

func openQueue(t *testing.T, path string) *enroll.Queue {
	t.Helper()
	q, err := enroll.OpenQueue(path, inLab)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestQueue_SurvivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "claims.cbor")
	q := openQueue(t, path)
	first, second := claimOf(1, "a", begin), claimOf(2, "b", begin.Add(time.Second))
	again := claimOf(1, "renamed", begin.Add(time.Minute))
	a := enroll.Approval{Fleet: inLab, Device: first.Claim.Device, MAC: [32]byte{9}}
	for _, w := range []enroll.Waiting{first, second, again} {
		if added, err := q.Add(w, begin); err != nil || !added {
			t.Fatal(added, err)
		}
	}
	if err := q.Deposit(a, begin); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := q.Waiting(begin)
		if len(got) != 2 || got[0] != second || got[1] != again {
			t.Fatalf("got %v, want one claim of each device, oldest first", got)
		}
		if have, ok := q.Approval(a.Device, begin); !ok || have != a {
			t.Fatalf("approval: %v, %v", have, ok)
		}
		q = openQueue(t, path)
	}
	if there, err := q.Drop(begin, second.Claim.Device); !there || err != nil {
		t.Error(there, err)
	}
	if there, err := q.Drop(begin, second.Claim.Device); there || err != nil {
		t.Error("dropped twice", err)
	}
	if got := openQueue(t, path).Waiting(begin); len(got) != 1 {
		t.Errorf("after a drop and a restart: %v", got)
	}
	late := begin.Add(enroll.KeepFor + 2*time.Minute)
	if _, ok := q.Approval(a.Device, late); ok || len(q.Waiting(late)) != 0 {
		t.Error("kept for longer than a week")
	}
	other, err := enroll.OpenQueue(path, journal.FleetID{8})
	if err != nil || len(other.Waiting(begin)) != 0 {
		t.Errorf("another fleet finds %v, %v", other.Waiting(begin), err)
	}
}

// A claim that is made again must not wear out the card, and claims from one place must not keep out those from others.
func TestQueue_IsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "claims.cbor")
	q := openQueue(t, path)
	if _, err := q.Add(claimOf(0, "a", begin), begin); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if added, err := q.Add(claimOf(0, "a", begin.Add(time.Minute)), begin.Add(time.Minute)); err != nil || added {
		t.Fatal(added, err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("the same claim wrote the file anew: %v", err)
	}
	crowd, n := 0, 1
	for ; n < 200; n++ {
		w := claimOf(n, "a", begin)
		w.Addr = "/ip6/2001:db8::" + fmt.Sprint(n) + "/udp/1/quic-v1"
		_, err := q.Add(w, begin)
		if errors.Is(err, enroll.ErrQueueFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		crowd++
	}
	if crowd != 64 {
		t.Errorf("one network queued %d claims", crowd)
	}
	total := crowd + 1
	for ; n < 1000; n++ {
		_, err := q.Add(claimOf(n, "a", begin), begin)
		if errors.Is(err, enroll.ErrQueueFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		total++
	}
	if total != enroll.MaxQueue || len(q.Waiting(begin)) != enroll.MaxQueue {
		t.Errorf("%d claims fit", total)
	}
	if _, err := q.Add(claimOf(n, "a", begin), begin.Add(enroll.KeepFor+time.Hour)); err != nil {
		t.Errorf("a queue of old claims is full: %v", err)
	}
}

func TestOpenQueue_RefusesWhatItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "claims.cbor")
	if err := os.WriteFile(path, []byte{0x83, 9, 0x80, 0x80}, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := enroll.OpenQueue(path, inLab); err == nil {
		t.Error("a file of a format to come was taken")
	}
}

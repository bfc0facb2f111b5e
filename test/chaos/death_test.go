// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"testing"
	"time"
)

// TestHalfTheHubsDie kills 20 of 40 hubs in one moment while a device publishes, and loses the device too.
func TestHalfTheHubsDie(t *testing.T) {
	tr := begin(t, "20 of 40 hubs die at once, the device is gone, 2 000 segments", 1, 10)
	for range tr.rounds {
		tr.main.add(halve(tr, byTheBook))
	}
	tr.controlled = "one copy"
	tr.control = halve(tr, oneHub)
	tr.end()
}

// halve uses real libp2p hosts in the long form.
func halve(tr *trial, q quorum) outcome {
	tr.Helper()
	const segments, late = 2000, 200
	l := newLab(tr.T, plan{real: long(), hubs: 40, devices: 1})
	d := l.newDevice(0, q)
	d.seal(segments - late)
	d.awaitPublished()
	d.seal(late) // these are on their way
	time.Sleep(tr.some(100 * time.Millisecond))
	for _, i := range tr.rng.Perm(len(l.hub))[:len(l.hub)/2] {
		l.kill(l.hub[i])
	}
	d.gone()
	o, r := l.pull(d)
	tr.Logf("%d of %d segments noted as published, pulled in %s", len(d.receipts()), segments+1, r.Took)
	return o
}

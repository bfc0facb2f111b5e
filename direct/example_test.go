// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// A device and an operator on a stream whose both ends are proven. The doer, the ledger and the audit are the device's own.
func Example() {
	recovery, err := journal.GenerateReaderKey()
	check(err)
	f, err := fleet.Found(fleet.Founding{Name: "lab", Owner: owner, Spare: key(2).ID(), Recovery: recovery.Public()}, time.Now())
	check(err)
	lamp := edge.Quantity{Name: "switch", Kind: edge.State}
	d := thing.Build(thing.Device{ID: device.ID(), Sensors: []thing.Sensor{{Name: "lamp", Measures: []edge.Quantity{lamp}, Outputs: []edge.Quantity{lamp}}}})
	d.NextVersion(0)
	record, err := thing.Sign(device, d)
	check(err)
	server, err := direct.NewServer(direct.Options{Self: device.ID(), Fleet: func() *fleet.Fleet { return f },
		Thing: func() (*thing.Description, []byte) { return d, record }, Doer: &doer{}, Ledger: &book{past: map[direct.RequestID]direct.Past{}}, Audit: &audit{}})
	check(err)
	mine, theirs := net.Pipe()
	done := make(chan error)
	go func() { done <- server.Serve(context.Background(), theirs, owner.ID()) }()

	s, err := direct.Open(context.Background(), mine, direct.Config{Signer: owner, Device: device.ID()})
	check(err)
	fmt.Println(s.Do(context.Background(), direct.Request{Op: direct.Set, Name: "lamp/switch", Value: true}))
	_, err = s.Do(context.Background(), direct.Request{Op: direct.Set, Name: "lamp/switch", Value: "green"})
	fmt.Println(err)
	check(s.Close())
	check(<-done)
	// Output:
	// true <nil>
	// direct: bad argument: lamp/switch is "green": want on or off
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

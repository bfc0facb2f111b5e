// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log"
	"os"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/journal"
)

// A device seals two readings; a publisher takes what is to be sent.
func Example() {
	if err := example(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// sealed seq 1 with 2 readings
	// to publish first: seq 0
}

func example() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	reader, err := journal.GenerateReaderKey()
	if err != nil {
		return err
	}
	public, err := journal.NewReader(reader.Public())
	if err != nil {
		return err
	}
	box, _, err := outbox.Open(ctx, outbox.Options{Dir: dir, Fleet: journal.FleetID{1}, Signer: journal.NewSoftKey(key)})
	if err != nil {
		return err
	}
	defer box.Close()
	boot, temperature := journal.BootID{1}, edge.Quantity{Name: "temperature", Unit: "Cel"}
	if _, err := box.StartEpoch(ctx, "main", []journal.Reader{public}, journal.Stamp{Boot: boot}); err != nil {
		return err
	}
	seg, err := box.Seal(ctx, "main", boot, []edge.Reading{
		{Sensor: "bme280-0", At: edge.Instant{Mono: 1000}, Sample: edge.Sample{Quantity: temperature, Value: 21.5}},
		{Sensor: "bme280-0", At: edge.Instant{Mono: 2000}, Sample: edge.Sample{Quantity: temperature, Value: 21.6}},
	})
	if err != nil {
		return err
	}
	fmt.Printf("sealed seq %d with %d readings\n", seg.Seq, seg.Count)
	items, err := box.Take(ctx, 8)
	if err != nil {
		return err
	}
	fmt.Printf("to publish first: seq %d\n", items[0].Segment.Seq)
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/streembit/edge/client"
)

// Subscribe prints proven readings as they are published, and goes on after the last one when it is started again.
func ExampleClient_Subscribe() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.Dial(ctx, "/home/me/.config/streembit/collector", client.Options{Memory: "position.json"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.Subscribe(ctx, func(batch []client.Reading) error {
		for _, r := range batch {
			fmt.Println(r.DeviceName, r.Name(), r.Value, r.Unit, r.At.Time())
		}
		return nil
	})
	if err != nil {
		log.Println(err)
	}
}

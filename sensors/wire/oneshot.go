// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"time"

	"github.com/streembit/edge/hal"
)

// OneShot is a chip that measures when it is told to, takes no command while it does, and sleeps by itself otherwise. It is never used concurrently.
type OneShot struct {
	Conn *hal.Conn
	Time time.Duration // of a measurement, at most
	runs bool          // perhaps: a Measure was stopped before its end
}

// Measure starts a measurement and waits for its end; before that for the end of one that an earlier call, stopped by its context, left behind.
func (o *OneShot) Measure(ctx context.Context, command ...byte) error {
	if o.runs {
		if err := hal.Sleep(ctx, o.Time); err != nil {
			return err
		}
	}
	o.runs = true
	if err := Send(ctx, o.Conn, o.Time, command...); err != nil {
		return err
	}
	o.runs = false
	return nil
}

// Close waits until the chip sleeps. It implements that method of sensors.Sensor.
func (o *OneShot) Close() error {
	if o.runs {
		return hal.Sleep(context.Background(), o.Time)
	}
	return nil
}

// Send writes a command and waits for as long as the chip needs for it.
func Send(ctx context.Context, c *hal.Conn, wait time.Duration, command ...byte) error {
	if err := c.Tx(ctx, command, nil); err != nil {
		return err
	}
	return hal.Sleep(ctx, wait)
}

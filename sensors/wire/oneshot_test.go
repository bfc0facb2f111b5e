// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"github.com/streembit/edge/sensors/wire"
)

// A measurement that was stopped runs on in the chip: the next one and Close wait for its end. A chip at rest is not waited for.
func TestOneShot(t *testing.T) {
	start := i2ctest.IO{Addr: 0x44, W: []byte{0xfd}}
	synctest.Test(t, func(t *testing.T) {
		o := &wire.OneShot{Conn: conn(t, start, start, start, start), Time: 10 * time.Millisecond}
		takes := func(want time.Duration, cause error, f func(context.Context) error) {
			t.Helper()
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			if cause == nil {
				ctx = t.Context()
			}
			if err := f(ctx); !errors.Is(err, cause) || time.Since(begin) != want {
				t.Errorf("%v after %v, want %v after %v", err, time.Since(begin), cause, want)
			}
		}
		measure := func(ctx context.Context) error { return o.Measure(ctx, 0xfd) }
		stop := func(context.Context) error { return o.Close() }
		takes(0, nil, stop)
		takes(10*time.Millisecond, nil, measure)
		takes(10*time.Millisecond, nil, measure)
		takes(5*time.Millisecond, context.DeadlineExceeded, measure)
		takes(20*time.Millisecond, nil, measure)
		takes(0, nil, stop)
		takes(5*time.Millisecond, context.DeadlineExceeded, measure)
		takes(10*time.Millisecond, nil, stop)
	})
}

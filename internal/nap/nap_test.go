// SPDX-License-Identifier: Apache-2.0

package nap_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/internal/nap"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !nap.For(t.Context(), time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("a minute took %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if nap.For(ctx, time.Minute) || time.Since(began) != time.Second {
			t.Errorf("it ended %s after the beginning, its context after 1 s", time.Since(began))
		}
	})
}

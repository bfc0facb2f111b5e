// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/streembit/edge/collector"
)

const (
	showAfter = 2 * time.Second // what is done sooner needs no progress
	showEvery = 200 * time.Millisecond
)

// pullOnce pulls what exists and shows how far it is; show may be nil.
func pullOnce(ctx context.Context, c *collector.Collector, show *progress) (collector.Report, error) {
	if show != nil {
		defer showPull(show, c, "pulling")()
	}
	return c.Pull(ctx)
}

// showPull keeps a progress line until the returned function is called.
func showPull(show *progress, c interface{ Progress() collector.Progress }, label string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(showEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				show.clear()
				return
			case <-tick.C:
				if took := time.Since(began); took >= showAfter {
					show.live(label, "%s", pullLine(c.Progress(), took))
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// pullLine says how much has come, how fast, and how long the rest takes at that rate.
func pullLine(p collector.Progress, took time.Duration) string {
	line := fmt.Sprintf("%s readings · %s/s", number(p.Readings), number(uint64(float64(p.Readings)/took.Seconds())))
	if p.Segments == 0 || p.Segments >= p.Expected {
		return line
	}
	left := time.Duration(float64(took) * float64(p.Expected-p.Segments) / float64(p.Segments))
	return fmt.Sprintf("%s · %d of %d segments · %s left", line, p.Segments, p.Expected, left.Round(time.Second))
}

// isTerminal reports whether somebody sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

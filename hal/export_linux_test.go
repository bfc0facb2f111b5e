// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"io/fs"
	"os"
	"time"

	"github.com/streembit/edge/boards"
)

// Classify is what a guard does with an error of the bus.
func Classify(err error) error { return classify(err) }

// Chip is a GPIO chip as periph finds it.
type Chip struct {
	Name, Path, Label string
	Lines             []string
}

// Lines names the lines of chips.
func Lines(files fs.FS, board boards.Board, from []Chip) []NamedPin {
	var chips []gpioChip
	for _, c := range from {
		chips = append(chips, gpioChip{name: c.Name, path: c.Path, label: c.Label, lines: c.Lines})
	}
	return lines(chips, headerNames(files, board, chips))
}

// EdgeReader reads edges of a file as of a GPIO line.
type EdgeReader struct{ count edgeCount }

// Next is Line.WaitForEdge.
func (e *EdgeReader) Next(f *os.File, timeout time.Duration) (bool, error) {
	return e.count.next(f, timeout)
}

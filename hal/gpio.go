// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"periph.io/x/host/v3/gpioioctl"

	"github.com/streembit/edge/boards"
)

// chipPin is a line of a GPIO character device.
type chipPin struct {
	path   string // of the chip, for example "/dev/gpiochip0"
	name   string // for messages
	number uint32 // of the line in the chip
}

// gpioChip is what is to be known of a chip to name its lines.
type gpioChip struct {
	name, path, label string
	lines             []string // names by number; "" for a line without
}

// gpioChips takes the chips as periph found them: those of the board itself (label pinctrl-…) first. periph sees them once, at its start.
func gpioChips() []gpioChip {
	var chips []gpioChip
	for _, c := range gpioioctl.Chips {
		chip := gpioChip{name: c.Name(), path: c.Path(), label: c.Label()}
		for _, line := range c.Lines() {
			chip.lines = append(chip.lines, strings.TrimPrefix(line.Name(), c.Name()+"-")) // periph's prefix of a name that it knows already
		}
		chips = append(chips, chip)
	}
	return chips
}

// headerNames returns the names that the board's table has for lines, by chip and number ("gpiochip0:17"): the place on the header, and what the
// board's documents call the line.
func headerNames(files fs.FS, board boards.Board, chips []gpioChip) map[string][]string {
	byLabel, labels := make(map[string]string), make(map[string]int)
	for _, c := range chips {
		byLabel[c.label] = c.name
		labels[c.label]++
	}
	names := make(map[string][]string)
	for _, p := range board.Pins {
		chip, found := byLabel[p.Label], labels[p.Label] == 1
		if p.Label == "" {
			chip, found = boards.ChipOf(files, p)
		}
		if found {
			line := fmt.Sprintf("%s:%d", chip, p.Offset)
			names[line] = append(names[line], p.Header, p.Line)
		}
	}
	return names
}

// lines names all lines of all chips. A line is called what the kernel calls it, or by chip and number if it has no name or an
// earlier line has the same; either way it has the alias "gpiochip0:17", and "label:17" if no other chip has the label.
func lines(chips []gpioChip, header map[string][]string) []NamedPin {
	var named, others []NamedPin
	seen := make(map[string]bool)
	labels := make(map[string]int)
	for _, c := range chips {
		labels[c.label]++
	}
	for _, c := range chips {
		for number, name := range c.lines {
			byChip := fmt.Sprintf("%s:%d", c.name, number)
			pin := NamedPin{Name: name, Aliases: []string{byChip}, Pin: chipPin{path: c.path, name: byChip, number: uint32(number)}}
			if labels[c.label] == 1 && c.label != c.name {
				pin.Aliases = append(pin.Aliases, fmt.Sprintf("%s:%d", c.label, number))
			}
			pin.Aliases = append(pin.Aliases, header[byChip]...)
			if slices.Contains([]string{"", "-", "_"}, name) || seen[name] {
				pin.Name = byChip
				others = append(others, pin)
				continue
			}
			seen[name] = true
			named = append(named, pin)
		}
	}
	return append(named, others...)
}

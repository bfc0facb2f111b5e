// SPDX-License-Identifier: Apache-2.0

// Package doctor finds out what is wrong with a machine that is to run streembitd: buses and the rights to them, the clock, the disk and how it is mounted, the
// watchdog, power and heat. It only reads, and reads everything below a file-system root, so that its tests plant each fault in a copy of /proc and /sys.
package doctor

import (
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge/boards"
)

// Level says how bad a finding is.
type Level string

// The levels. Only a Fault is against the machine doing its work now.
const (
	OK      Level = "ok"
	Note    Level = "note"    // good to know
	Warning Level = "warning" // works, and will cost data or a journey one day
	Fault   Level = "fault"   // does not work
)

// Finding is one thing that was looked at.
type Finding struct {
	Check string `json:"check"` // what was looked at: board, buses, rights, clock, disk, card, mounts, watchdog, power, …
	Level Level  `json:"level"`
	What  string `json:"what"`          // a sentence
	Fix   string `json:"fix,omitempty"` // what to do, as a rule a command; with Warning and Fault always
}

// Machine is what is examined. Plain data: a zero field is not known.
type Machine struct {
	Root    fs.FS     // the root of the file system
	State   string    // folder of streembitd, absolute
	User    string    // that streembitd runs as
	Unit    string    // of systemd, without .service
	Needs   []Need    // of the config's sensors
	Quota   int64     // that the config gives the outbox and the store, in bytes
	Now     time.Time // zero = the clock is not looked at
	Synced  bool      // the kernel says that its clock is right
	Built   time.Time // before which it cannot be; zero = unknown
	Space   func(path string) (Space, error)
	Updates func() []Finding // what the updates say of themselves; nil = nothing
}

// Need is a bus that a sensor of the config is on.
type Need struct {
	Sensor string
	Bus    string // i2c, spi, onewire, gpio
	Device string // file such as /dev/i2c-1; "" = the board's usual one
}

// Space is the room of a file system, in bytes.
type Space struct{ Total, Free int64 }

// Examine looks at everything. The order is that of a technician: what it is, what is connected, what it needs to go on.
func Examine(m Machine) []Finding {
	board, known := boards.Detect(m.Root)
	var all []Finding
	for _, check := range []func(Machine, boards.Board, bool) []Finding{boardCheck, busCheck, rightsCheck, clockCheck, diskCheck, mountCheck, cardCheck,
		writesCheck, secretsCheck, watchdogCheck, powerCheck, memoryCheck} {
		all = append(all, check(m, board, known)...)
	}
	if m.Updates != nil {
		all = append(all, m.Updates()...)
	}
	return all
}

// Worst is the highest level among findings.
func Worst(all []Finding) Level {
	order := []Level{OK, Note, Warning, Fault}
	worst := 0
	for _, f := range all {
		worst = max(worst, slices.Index(order, f.Level))
	}
	return order[worst]
}

func ok(check, what string) []Finding { return []Finding{{check, OK, what, ""}} }

func boardCheck(_ Machine, b boards.Board, known bool) []Finding {
	if !known {
		return []Finding{{"board", Note, b.Name + ": not in the tables, so that buses have no usual place: name them in the config", ""}}
	}
	return ok("board", b.Name)
}

// maxText is what is read of a file.
const maxText = 1 << 20

// text returns a file without the blanks around it; "" if there is none or it cannot be read.
func text(root fs.FS, name string) string {
	f, err := root.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(root fs.FS, name string) (int64, bool) {
	n, err := strconv.ParseInt(text(root, name), 0, 64)
	return n, err == nil
}

func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, strings.TrimPrefix(name, "/"))
	return err == nil
}

// glob lists paths, without an error: patterns are ours.
func glob(root fs.FS, pattern string) []string {
	found, err := fs.Glob(root, pattern)
	if err != nil {
		return nil
	}
	return found
}

// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// LED is a lamp of the board, as the kernel's class of them has it (Documentation/leds/leds-class.rst).
type LED struct{ dir string }

// usual are the lamps that boards have for what people look at, the most likely first.
var usual = []string{"ACT", "led0", "act", "green:act", "user-led", "status"}

// FindLED finds a lamp below a file system's root: the one that is named, or "" = the first of the usual ones. It is an error that wraps os.ErrNotExist if
// there is none.
func FindLED(root, name string) (LED, error) {
	names := usual
	if name != "" {
		if strings.ContainsRune(name, '/') {
			return LED{}, fmt.Errorf("command: LED %q: want a name below /sys/class/leds", name)
		}
		names = []string{name}
	}
	for _, n := range names {
		l := LED{filepath.Join(root, "sys/class/leds", n)}
		if _, err := os.Stat(filepath.Join(l.dir, "brightness")); err == nil {
			return l, nil
		}
	}
	return LED{}, fmt.Errorf("command: no LED %s below /sys/class/leds: %w", strings.Join(names, ", "), os.ErrNotExist)
}

// Name is the lamp's.
func (l LED) Name() string { return filepath.Base(l.dir) }

const blink = 125 * time.Millisecond // four times a second, on and off

// Blink blinks until ctx ends or d has passed, then gives the lamp back to what drove it before.
func (l LED) Blink(ctx context.Context, d time.Duration) (err error) {
	before, err := l.trigger()
	if err != nil {
		return err
	}
	if err := l.write("trigger", "none"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.write("brightness", "0"), l.write("trigger", before)) }()
	t := time.NewTicker(blink)
	defer t.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	for on := true; ; on = !on {
		if err := l.write("brightness", map[bool]string{true: "255", false: "0"}[on]); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-t.C:
		}
	}
}

// trigger returns what drives the lamp: the kernel marks it with brackets.
func (l LED) trigger() (string, error) {
	raw, err := os.ReadFile(filepath.Join(l.dir, "trigger"))
	if err != nil {
		return "", fmt.Errorf("command: reading LED: %w", err)
	}
	words := strings.Fields(string(raw))
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "[") })
	if i < 0 {
		return "none", nil
	}
	return strings.Trim(words[i], "[]"), nil
}

// write changes an attribute; one is never made or cut.
func (l LED) write(attribute, text string) error {
	f, err := os.OpenFile(filepath.Join(l.dir, attribute), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("command: setting LED: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("command: setting LED: %w", err)
	}
	return nil
}

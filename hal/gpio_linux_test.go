// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/hal"
)

// Each error number of this kernel is found in the text that periph makes of it, and means what it says.
func TestErrorNumbers(t *testing.T) {
	kinds := map[syscall.Errno]error{
		syscall.ENXIO: hal.ErrAbsent, syscall.EREMOTEIO: hal.ErrAbsent,
		syscall.ETIMEDOUT: hal.ErrTimeout, syscall.EBUSY: hal.ErrTimeout, syscall.ETIME: hal.ErrTimeout,
		syscall.ENODEV: hal.ErrGone, syscall.ESHUTDOWN: hal.ErrGone, syscall.EBADF: hal.ErrGone,
		syscall.ENOENT: hal.ErrGone, syscall.EPIPE: hal.ErrGone, syscall.EPROTO: hal.ErrGone,
	}
	for n := syscall.Errno(1); n <= syscall.ERFKILL; n++ {
		if n.Error() == fmt.Sprintf("errno %d", int(n)) && n != 41 && n != 58 { // numbers that Linux left out
			t.Errorf("no text for %d", int(n))
		}
		for _, err := range []error{sysfsError(n), n, &os.PathError{Op: "open", Path: "/dev/i2c-1", Err: n}} {
			got := hal.Classify(err)
			if !errors.Is(got, n) {
				t.Errorf("%v: %v is not %d", err, got, int(n))
			}
			for _, kind := range []error{hal.ErrAbsent, hal.ErrTimeout, hal.ErrGone} {
				if errors.Is(got, kind) != errors.Is(kinds[n], kind) {
					t.Errorf("%v: %v wraps %v: %v", err, got, kind, errors.Is(got, kind))
				}
			}
		}
	}
	for _, err := range []error{nil, errOwn, fmt.Errorf("sim: %w", hal.ErrTimeout), errors.New("not: EIO")} {
		if got := hal.Classify(err); !errors.Is(got, err) || fmt.Sprint(got) != fmt.Sprint(err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := hal.Classify(errors.New("sysfs-i2c: are you member of group 'plugdev'? open /dev/i2c-1: permission denied")); !errors.Is(got, os.ErrPermission) {
		t.Errorf("%v", got)
	}
}

func TestLineNames(t *testing.T) {
	m := newMachine(t)
	m.write("sys/devices/platform/gpio/gpiochip1/uevent", "OF_FULLNAME=/ocp/target-module@4c000/gpio@0\n")
	m.link("sys/bus/gpio/devices/gpiochip1", "sys/devices/platform/gpio/gpiochip1")
	board := boards.Board{Pins: []boards.Pin{
		{Header: "P1-11", Line: "GPIO1", Label: "pinctrl-x", Offset: 1},
		{Header: "P1-12", Line: "GPIO2", Label: "pinctrl-x", Offset: 2},
		{Header: "P9_12", Line: "GPIO1_1", Node: "target-module@4c000/gpio@0", Offset: 1},
		{Header: "P1-40", Line: "GPIO40", Label: "expander", Offset: 0}, // two chips have the label
		{Header: "P1-41", Line: "GPIO41", Label: "absent", Offset: 0},
	}}
	pins := hal.Lines(os.DirFS(m.root), board, []hal.Chip{
		{Name: "gpiochip0", Path: "/dev/gpiochip0", Label: "pinctrl-x", Lines: []string{"GPIO0", "GPIO1", "", "-", "GPIO0"}},
		{Name: "gpiochip1", Path: "/dev/gpiochip1", Label: "gpio-32-63", Lines: []string{"GPIO1", "P9_12 [gpmc_ben1]"}},
		{Name: "gpiochip2", Path: "/dev/gpiochip2", Label: "expander", Lines: []string{"", "LED"}},
		{Name: "gpiochip3", Path: "/dev/gpiochip3", Label: "expander", Lines: []string{"GPIO2"}},
	})
	b := hal.NewBoard(hal.Wiring{Pins: pins})
	want := []string{"GPIO0", "GPIO1", "P9_12 [gpmc_ben1]", "LED", "GPIO2", "gpiochip0:2", "gpiochip0:3", "gpiochip0:4", "gpiochip1:0", "gpiochip2:0"}
	if got := b.Buses(hal.GPIO); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	pin := func(name string) hal.Pin {
		p, err := b.Port(hal.Request{Kind: hal.GPIO, Pin: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return p.Pin
	}
	for _, same := range [][]string{
		{"GPIO0", "gpiochip0:0", "pinctrl-x:0"},
		{"GPIO1", "gpiochip0:1", "pinctrl-x:1", "P1-11"},
		{"gpiochip0:2", "pinctrl-x:2", "P1-12"},
		{"gpiochip0:4", "pinctrl-x:4"},
		{"gpiochip1:0", "gpio-32-63:0"},
		{"gpiochip1:1", "P9_12", "GPIO1_1", "P9_12 [gpmc_ben1]"},
		{"GPIO2", "gpiochip3:0"}, // a line's own name goes before what the table calls another
	} {
		for _, name := range same[1:] {
			if pin(name) != pin(same[0]) {
				t.Errorf("%s is not %s", name, same[0])
			}
		}
	}
	if pin("gpiochip2:0") == pin("gpiochip3:0") || pin("gpiochip0:0") == pin("gpiochip0:4") {
		t.Error("two lines are one")
	}
	for _, name := range []string{"expander:0", "P1-40", "P1-41", "gpiochip0:5", "gpiochip9:0", ""} {
		if _, err := b.Port(hal.Request{Kind: hal.GPIO, Pin: name}); !errors.Is(err, hal.ErrNoBus) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A chip that is not there, and a file that is no chip: the error names the line and keeps the kernel's.
func TestLineErrors(t *testing.T) {
	m := newMachine(t)
	m.write("gpiochip1", "")
	b := hal.NewBoard(hal.Wiring{Pins: hal.Lines(os.DirFS(m.root), boards.Board{}, []hal.Chip{
		{Name: "gpiochip0", Path: m.root + "/gpiochip0", Lines: []string{"A"}},
		{Name: "gpiochip1", Path: m.root + "/gpiochip1", Lines: []string{"B"}},
	})})
	for name, cause := range map[string]error{"A": os.ErrNotExist, "B": syscall.ENOTTY} {
		p, err := b.Port(hal.Request{Kind: hal.GPIO, Pin: name})
		if err != nil {
			t.Fatal(err)
		}
		_, asInput := p.Pin.Input(gpio.PullUp, gpio.FallingEdge)
		_, asOutput := p.Pin.Output(gpio.High)
		for _, err := range []error{asInput, asOutput} {
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), "gpiochip") {
				t.Errorf("%s: %v, want %v", name, err, cause)
			}
		}
	}
}

// The kernel's structures have one layout on all machines (linux/gpio.h); this also runs as 32-bit ARM.
func TestLayout(t *testing.T) {
	if a, b := unsafe.Sizeof(unix.GPIOV2LineEvent{}), unsafe.Sizeof(unix.GPIOV2LineRequest{}); a != 48 || b != unix.GPIO_V2_GET_LINE_IOCTL>>16&0x3fff {
		t.Errorf("an event has %d bytes, a request %d", a, b)
	}
}

func events(numbers ...uint32) []byte {
	var b bytes.Buffer
	for _, n := range numbers {
		if err := binary.Write(&b, binary.NativeEndian, [12]uint32{2: 1, 4: n, 5: n}); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// Every edge that the kernel has numbered is handed out once, also those that its queue had no room for.
func TestEdgesAreCountedExactly(t *testing.T) {
	many := make([]uint32, 500)
	for i := range many {
		many[i] = uint32(i + 1)
	}
	for name, tc := range map[string]struct {
		numbers []uint32
		want    int
	}{
		"none":               {nil, 0},
		"one":                {[]uint32{1}, 1},
		"many":               {many, 500},
		"first ones lost":    {[]uint32{20, 21}, 21},
		"some lost":          {[]uint32{1, 2, 1030, 1031}, 1031},
		"lost within a read": {[]uint32{1, 5}, 5},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { // a pipe holds fewer than many
			if _, err := w.Write(events(tc.numbers...)); err != nil {
				t.Error(err)
			}
		}()
		var edges hal.EdgeReader
		for i := range tc.want {
			if edge, err := edges.Next(r, time.Minute); !edge || err != nil {
				t.Fatalf("%s: edge %d: %v, %v", name, i, edge, err)
			}
		}
		for _, timeout := range []time.Duration{time.Millisecond, time.Nanosecond, 0, -1} {
			if edge, err := edges.Next(r, timeout); edge || err != nil {
				t.Errorf("%s: after the last, time-out %s: %v, %v", name, timeout, edge, err)
			}
		}
		w.Close()
		if _, err := edges.Next(r, time.Minute); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the line is gone: %v", name, err)
		}
		r.Close()
	}
}

func TestMalformedEdges(t *testing.T) {
	for name, b := range map[string][]byte{"half": events(1)[:20], "one and a half": events(1, 2)[:70]} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		var edges hal.EdgeReader
		if edge, err := edges.Next(r, time.Minute); edge || err == nil {
			t.Errorf("%s: %v, %v", name, edge, err)
		}
		r.Close()
		w.Close()
	}
}

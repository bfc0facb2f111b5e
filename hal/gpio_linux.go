// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
)

// Lines are requested here and not by periph's gpioioctl, which finds the chips: its requests go by name, so that a line without a name or
// with that of another cannot be had; its queue is the kernel's default of 16 edges and it drops the numbers by which lost
// ones show; an output is low for a moment before its first level; and the error numbers are lost. The ioctls are those of linux/gpio.h, version 2.

// edgeQueue is how many edges the kernel keeps for a line, its maximum for a request (GPIO_V2_LINES_MAX * 16).
const edgeQueue = 1024

// From linux/gpio.h, enum gpio_v2_line_flag.
const (
	flagInput        = 1 << 2
	flagOutput       = 1 << 3
	flagRising       = 1 << 4
	flagFalling      = 1 << 5
	flagPullUp       = 1 << 8
	flagPullDown     = 1 << 9
	flagBiasDisabled = 1 << 10
)

// Input implements Pin.
func (p chipPin) Input(pull gpio.Pull, edge gpio.Edge) (Line, error) {
	var c unix.GPIOV2LineConfig
	c.Flags = flagInput
	switch pull {
	case gpio.PullUp:
		c.Flags |= flagPullUp
	case gpio.PullDown:
		c.Flags |= flagPullDown
	case gpio.Float:
		c.Flags |= flagBiasDisabled
	}
	if edge == gpio.RisingEdge || edge == gpio.BothEdges {
		c.Flags |= flagRising
	}
	if edge == gpio.FallingEdge || edge == gpio.BothEdges {
		c.Flags |= flagFalling
	}
	return p.request(c)
}

// Output implements Pin. The line has its level from the first moment.
func (p chipPin) Output(level gpio.Level) (Output, error) {
	c := unix.GPIOV2LineConfig{Flags: flagOutput, Num_attrs: 1}
	c.Attrs[0].Attr.Id = unix.GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES
	c.Attrs[0].Mask = 1
	if level {
		c.Attrs[0].Attr.Flags = 1 // the union's values
	}
	return p.request(c)
}

func (p chipPin) request(c unix.GPIOV2LineConfig) (*chipLine, error) {
	chip, err := os.OpenFile(p.path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("hal: GPIO line %s: %w: check that the user who runs this may open it (group gpio)", p.name, err)
	}
	defer chip.Close()
	r := unix.GPIOV2LineRequest{Config: c, Num_lines: 1}
	r.Offsets[0] = p.number
	copy(r.Consumer[:len(r.Consumer)-1], "streembit")
	if c.Flags&(flagRising|flagFalling) != 0 {
		r.Event_buffer_size = edgeQueue
	}
	if err := ioctl(chip, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&r)); err != nil {
		return nil, fmt.Errorf("hal: GPIO line %s: %w: is another program or a driver of the kernel using it (see gpioinfo)?", p.name, err)
	}
	if err := unix.SetNonblock(int(r.Fd), true); err != nil { // so that reads have deadlines
		return nil, fmt.Errorf("hal: GPIO line %s: %w", p.name, errors.Join(err, unix.Close(int(r.Fd))))
	}
	return &chipLine{file: os.NewFile(uintptr(r.Fd), p.name), name: p.name}, nil
}

// ioctl passes a pointer as package unsafe wants it (rule 4).
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// chipLine is a requested line, an input or an output.
type chipLine struct {
	file *os.File
	name string

	mu    sync.Mutex // one WaitForEdge at a time
	edges edgeCount
}

// Read implements Line and Output.
func (l *chipLine) Read() (gpio.Level, error) {
	v := unix.GPIOV2LineValues{Mask: 1}
	if err := ioctl(l.file, unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v)); err != nil {
		return gpio.Low, fmt.Errorf("hal: reading GPIO line %s: %w", l.name, err)
	}
	return v.Bits&1 != 0, nil
}

// Set implements Output.
func (l *chipLine) Set(level gpio.Level) error {
	v := unix.GPIOV2LineValues{Mask: 1}
	if level {
		v.Bits = 1
	}
	if err := ioctl(l.file, unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("hal: driving GPIO line %s: %w", l.name, err)
	}
	return nil
}

// WaitForEdge implements Line. The kernel keeps the last 1024 edges; it numbers all of them, so that those that it threw away because nobody
// came in time are handed out too. Lost without a trace are edges that follow each other faster than the kernel serves
// the line's interrupt (tens of microseconds on a Pi), and those of a chip whose driver polls.
func (l *chipLine) WaitForEdge(timeout time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	edge, err := l.edges.next(l.file, timeout)
	if err != nil {
		return false, fmt.Errorf("hal: waiting for GPIO line %s: %w", l.name, err)
	}
	return edge, nil
}

// Close implements Line and Output.
func (l *chipLine) Close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("hal: closing GPIO line %s: %w", l.name, err)
	}
	return nil
}

const eventSize = int(unsafe.Sizeof(unix.GPIOV2LineEvent{}))

// edgeCount reads the kernel's events of a line (struct gpio_v2_line_event, in the machine's byte order).
type edgeCount struct {
	last    uint32 // number of the last event that was read; the kernel begins with 1
	pending uint32 // edges that happened and were not handed out yet
	buf     [16 * eventSize]byte
}

// next hands out one edge, waiting for it at most for timeout.
func (e *edgeCount) next(f *os.File, timeout time.Duration) (bool, error) {
	if e.pending == 0 {
		if err := f.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return false, err
		}
		n, err := f.Read(e.buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n < eventSize || n%eventSize != 0 {
			return false, fmt.Errorf("the kernel gave %d bytes, an edge has %d", n, eventSize)
		}
		// The events before the last one have numbers in between.
		number := binary.NativeEndian.Uint32(e.buf[n-eventSize+int(unsafe.Offsetof(unix.GPIOV2LineEvent{}.Line_seqno)):])
		e.pending, e.last = number-e.last, number
	}
	if e.pending == 0 {
		return false, errors.New("the kernel gave an edge twice")
	}
	e.pending--
	return true, nil
}

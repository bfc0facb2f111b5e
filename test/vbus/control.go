// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// controlHelp lists what can be typed while vbus runs.
const controlHelp = `plug | unplug                 the adapter, as a USB stick
set NAME VALUE                what the chips measure, for example: set celsius 23.5
nak|stuck|flip|ones|zeros ADDR   a chip's fault, for example: flip 0x44
slow ADDR DURATION            each transaction of a chip takes longer
heal ADDR                     end a fault
note TEXT                     a comment in the log
`

// recorder logs each transaction as sensorstest.ParseOps reads it: address, written bytes, read bytes. One that failed is a comment.
type recorder struct {
	bus transactor
	mu  sync.Mutex
	log io.Writer
}

// Tx implements transactor.
func (r *recorder) Tx(addr uint16, w, read []byte) error {
	err := r.bus.Tx(addr, w, read)
	word := func(b []byte) string {
		if len(b) == 0 {
			return "-"
		}
		return hex.EncodeToString(b)
	}
	if err != nil {
		r.line("# %02x %s: %v", addr, word(w), err)
	} else {
		r.line("%02x %s %s", addr, word(w), word(read))
	}
	return err
}

func (r *recorder) line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.log, format+"\n", args...) // who loses the log sees it in the log
}

// session is a running vbus.
type session struct {
	bus    *sim.Bus
	record *recorder
	values *values

	conn   net.Conn // nil while unplugged
	port   string   // of the USB controller, once plugged
	served chan error
}

// plug attaches the adapter and returns the device file of its bus. The caller unplugs.
func (s *session) plug() (string, error) {
	if s.conn != nil {
		return "", errors.New("it is plugged in")
	}
	before := adapters()
	conn, port, err := plug(s.port)
	if err != nil {
		return "", err
	}
	s.conn, s.port, s.served = conn, port, make(chan error, 1)
	go func() { s.served <- serve(conn, &adapter{bus: s.record}) }() // unplug waits for it
	file, err := newBus(before)
	if err != nil {
		return "", errors.Join(err, s.unplug())
	}
	return file, nil
}

// unplug takes the adapter away and waits until nothing serves it any more.
func (s *session) unplug() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	if e := <-s.served; !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	s.conn = nil
	return err
}

// run carries out the lines of in and answers each with one line: "ok", what came of it, or "error: …".
func (s *session) run(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		answer, err := s.obey(words[0], words[1:])
		if err != nil {
			answer = "error: " + err.Error()
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			return fmt.Errorf("vbus: answering: %w", err)
		}
	}
	return lines.Err()
}

func (s *session) obey(word string, args []string) (string, error) {
	switch word {
	case "plug":
		return s.plug()
	case "unplug":
		return "ok", s.unplug()
	case "note":
		s.record.line("# %s", strings.Join(args, " "))
		return "ok", nil
	case "set":
		if len(args) != 2 {
			return "", errors.New("set NAME VALUE")
		}
		value, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			return "", err
		}
		return "ok", s.values.set(args[0], value)
	}
	return "ok", s.fault(word, args)
}

// fault injects a fault into one chip or ends it.
func (s *session) fault(word string, args []string) error {
	kind, known := map[string]sim.FaultKind{
		"nak": sim.NAK, "stuck": sim.Stuck, "flip": sim.Flip, "ones": sim.Ones, "zeros": sim.Zeros, "slow": sim.Slow, "heal": 0,
	}[word]
	if !known || len(args) == 0 {
		return fmt.Errorf("not understood, the commands are:\n%s", controlHelp)
	}
	addr, err := strconv.ParseUint(args[0], 0, 7)
	if err != nil {
		return fmt.Errorf("an address has 7 bits: %w", err)
	}
	f := sim.Fault{Kind: kind}
	if kind == sim.Slow {
		if len(args) != 2 {
			return errors.New("slow ADDR DURATION, for example: slow 0x44 300ms")
		}
		if f.Delay, err = time.ParseDuration(args[1]); err != nil {
			return err
		}
	}
	if kind == 0 {
		s.bus.Heal(uint16(addr))
	} else {
		s.bus.Inject(uint16(addr), f)
	}
	return nil
}

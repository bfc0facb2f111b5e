// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/hal"
)

// script is a bus whose transactions a test writes.
type script struct {
	tx       func(n int, w, r []byte) error // n counts from 0
	openErr  error
	closeErr error

	mu     sync.Mutex
	txs    int
	opens  int
	closes int
	gone   bool
	name   string // "" = /dev/i2c-1
	log    []string
	busy   int
	most   int // transactions at once
}

func (s *script) open() (i2c.BusCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openErr != nil {
		return nil, s.openErr
	}
	s.opens++
	return s, nil
}
func (s *script) String() string                  { return "the bus itself" }
func (s *script) SetSpeed(physic.Frequency) error { return nil }
func (s *script) Close() error                    { s.mu.Lock(); defer s.mu.Unlock(); s.closes++; return s.closeErr }

func (s *script) Tx(_ uint16, w, r []byte) error {
	s.mu.Lock()
	n := s.txs
	s.txs++
	s.busy++
	s.most = max(s.most, s.busy)
	s.log = append(s.log, string(w))
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.busy--; s.mu.Unlock() }()
	if s.tx == nil {
		return nil
	}
	return s.tx(n, w, r)
}

// state returns how often the bus was opened, closed and used.
func (s *script) state() [3]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return [3]int{s.opens, s.closes, s.txs}
}

// plug changes whether the bus is there, and under which name.
func (s *script) plug(there bool, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.name = !there, name
}

// scan finds the bus under its name of now; its key stays.
func (s *script) scan() []hal.Bus[i2c.BusCloser] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	name := s.name
	return []hal.Bus[i2c.BusCloser]{{Name: name, Key: "usb-1-1.2", Open: s.open, Present: func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.gone && s.name == name
	}}}
}

func (s *script) board(t *testing.T) *hal.Board {
	t.Helper()
	b := hal.NewBoard(hal.Wiring{I2C: []hal.Bus[i2c.BusCloser]{{Name: "/dev/i2c-1", Open: s.open}}})
	t.Cleanup(func() { b.Close() })
	return b
}

func conn(t *testing.T, b *hal.Board) *hal.Conn {
	t.Helper()
	p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76})
	if err != nil {
		t.Fatal(err)
	}
	return p.I2C
}

func health(t *testing.T, b *hal.Board) hal.BusHealth {
	t.Helper()
	all := b.Health()
	if len(all) != 1 {
		t.Fatalf("health of %d buses: %+v", len(all), all)
	}
	return all[0]
}

// sysfsError is an error as periph's sysfs makes it: the number is gone, only its text is left.
func sysfsError(errno syscall.Errno) error { return errors.New("sysfs-i2c: " + errno.Error()) }

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(n int, _, r []byte) error {
			if n == 0 {
				time.Sleep(10 * time.Second)
			}
			r[0] = 0xaa
			return nil
		}}
		b := s.board(t)
		c, start := conn(t, b), time.Now()
		first := make([]byte, 1)
		if err := c.Tx(t.Context(), []byte{1}, first); !errors.Is(err, hal.ErrTimeout) || time.Since(start) != hal.TxTimeout {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		time.Sleep(100 * time.Millisecond)
		if h := health(t, b); h.State != hal.BusHung || h.Timeouts != 1 {
			t.Errorf("%+v", h)
		}
		start = time.Now()
		if err := c.Tx(t.Context(), []byte{1}, make([]byte, 1)); !errors.Is(err, hal.ErrTimeout) || time.Since(start) != hal.TxTimeout {
			t.Errorf("behind a hung one: %v after %s", err, time.Since(start))
		}
		time.Sleep(10 * time.Second)
		second := make([]byte, 1)
		if err := c.Tx(t.Context(), []byte{1}, second); err != nil || second[0] != 0xaa {
			t.Errorf("%v, read %x", err, second)
		}
		if first[0] != 0 {
			t.Error("the hung transaction wrote into its caller's buffer")
		}
		if h := health(t, b); h.State != hal.BusOpen || h.Timeouts != 2 || h.Transactions != 3 || h.Errors != 2 || h.Reopens != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestOneTransactionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(int, []byte, []byte) error { time.Sleep(20 * time.Millisecond); return nil }}
		c := conn(t, s.board(t))
		var want []string
		var callers sync.WaitGroup
		for i := range 20 {
			want = append(want, string(rune('a'+i)))
			callers.Go(func() {
				if err := c.Tx(t.Context(), []byte(want[i]), nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		if !slices.Equal(s.log, want) || s.most != 1 {
			t.Errorf("order %v, %d at once", s.log, s.most)
		}
	})
}

func TestContextEndsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(int, []byte, []byte) error { time.Sleep(500 * time.Millisecond); return nil }}
		b := s.board(t)
		c := conn(t, b)
		var callers sync.WaitGroup
		callers.Go(func() {
			if err := c.Tx(t.Context(), []byte("a"), nil); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for _, what := range []string{"waiting for the bus", "on the bus"} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			start := time.Now()
			err := c.Tx(ctx, []byte("b"), nil)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, hal.ErrTimeout) || time.Since(start) != 100*time.Millisecond {
				t.Errorf("%s: %v after %s", what, err, time.Since(start))
			}
			callers.Wait()
		}
		if got := s.state()[2]; got != 2 { // the one that only waited was never made
			t.Errorf("%d transactions", got)
		}
		if h := health(t, b); h.Timeouts != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestRetries(t *testing.T) {
	for name, tc := range map[string]struct {
		errs  []error // in turn, then none
		want  []error // what errors.Is finds; none = no error
		tries int
	}{
		"good":                 {nil, nil, 1},
		"busy chip":            {[]error{sysfsError(syscall.ENXIO), sysfsError(syscall.EREMOTEIO)}, nil, 3},
		"no chip":              {slices.Repeat([]error{sysfsError(syscall.ENXIO)}, 9), []error{hal.ErrAbsent, syscall.ENXIO}, 3},
		"lost arbitration":     {slices.Repeat([]error{sysfsError(syscall.EAGAIN)}, 9), []error{syscall.EAGAIN}, 3},
		"I/O error, then good": {[]error{sysfsError(syscall.EIO)}, nil, 2},
		"time-out":             {slices.Repeat([]error{sysfsError(syscall.ETIMEDOUT)}, 9), []error{hal.ErrTimeout, syscall.ETIMEDOUT}, 1},
		"gone":                 {slices.Repeat([]error{sysfsError(syscall.ENODEV)}, 9), []error{hal.ErrGone, syscall.ENODEV}, 1},
		"of a model":           {slices.Repeat([]error{fmt.Errorf("model: %w", hal.ErrAbsent)}, 9), []error{hal.ErrAbsent}, 3},
		"text alone":           {slices.Repeat([]error{errBus}, 9), []error{hal.ErrAbsent, syscall.EREMOTEIO}, 3},
		"own error":            {[]error{errOwn}, []error{errOwn}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{tx: func(n int, _, _ []byte) error {
					if n < len(tc.errs) {
						return tc.errs[n]
					}
					return nil
				}}
				c, start := conn(t, s.board(t)), time.Now()
				err := c.Tx(t.Context(), []byte{0xd0}, make([]byte, 1))
				if (err == nil) != (tc.want == nil) || s.state()[2] != tc.tries || time.Since(start) > 20*time.Millisecond {
					t.Errorf("%v after %d tries and %s", err, s.state()[2], time.Since(start))
				}
				for _, want := range tc.want {
					if !errors.Is(err, want) {
						t.Errorf("%v is not %v", err, want)
					}
				}
			})
		})
	}
}

var errOwn = errors.New("an error that no kernel has")

func TestRepeatedTimeoutsReopenTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := true
		s := &script{tx: func(int, []byte, []byte) error {
			if stuck {
				time.Sleep(300 * time.Millisecond) // the adapter's own time-out
				return sysfsError(syscall.ETIMEDOUT)
			}
			return nil
		}}
		b := s.board(t)
		c := conn(t, b)
		for range 3 {
			if got := s.state(); got[0] != 1 || got[1] != 0 {
				t.Fatalf("opened, closed, used %v", got)
			}
			if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrTimeout) {
				t.Fatal(err)
			}
		}
		if got := s.state(); got != [3]int{1, 1, 3} || health(t, b).State != hal.BusClosed {
			t.Errorf("after three time-outs: opened, closed, used %v, %+v", got, health(t, b))
		}
		start := time.Now()
		if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrTimeout) || time.Since(start) != 0 || s.state()[2] != 3 {
			t.Errorf("while it is closed: %v after %s", err, time.Since(start))
		}
		if h := health(t, b); h.Timeouts != 3 || h.Errors != 4 || h.Transactions != 4 {
			t.Errorf("%+v", h)
		}
		for range time.Hour / time.Second { // an hour of a sensor that reads each second
			time.Sleep(time.Second)
			_ = c.Tx(t.Context(), []byte{1}, nil)
		}
		if got := s.state(); got[0] < 300 || got[0] > 700 { // three tries of 1.3 s, then up to 5 s of pause
			t.Errorf("opened %d times in an hour", got[0])
		}
		stuck = false
		time.Sleep(5 * time.Second)
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil || health(t, b).State != hal.BusOpen {
			t.Errorf("%v, %+v", err, health(t, b))
		}
	})
}

// One chip that hangs the bus now and then, among others that answer, closes nothing.
func TestSingleTimeoutsCloseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(n int, _, _ []byte) error {
			if n%2 == 0 {
				return sysfsError(syscall.ETIMEDOUT)
			}
			return nil
		}}
		b := s.board(t)
		c := conn(t, b)
		for range 50 {
			_ = c.Tx(t.Context(), []byte{1}, nil)
		}
		if got := s.state(); got != [3]int{1, 0, 50} || health(t, b).Timeouts != 25 {
			t.Errorf("opened, closed, used %v, %+v", got, health(t, b))
		}
	})
}

func TestGoneAndBackUnderAnotherNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11"}
		s.tx = func(int, []byte, []byte) error {
			if s.scan() == nil {
				return sysfsError(syscall.EIO) // what i2c-tiny-usb says for whatever USB says
			}
			return nil
		}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		p, err := b.Port(hal.Request{Kind: hal.I2C, Bus: "usb-1-1.2", Addr: 0x76})
		if err != nil || p.Name != "/dev/i2c-11 address 0x76" {
			t.Fatalf("%+v, %v", p, err)
		}
		s.plug(false, "")
		if err := p.I2C.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) || !errors.Is(err, syscall.EIO) {
			t.Errorf("unplugged: %v", err)
		}
		if got := s.state(); got[0] != 1 || got[1] != 1 || health(t, b).State != hal.BusGone {
			t.Errorf("opened, closed, used %v, %+v", got, health(t, b))
		}
		for range 60 {
			time.Sleep(time.Second)
			if err := p.I2C.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) {
				t.Fatalf("while it is gone: %v", err)
			}
		}
		for _, name := range []string{"usb-1-1.2", "/dev/i2c-11"} { // a sensor that is opened meanwhile
			if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x77}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.plug(true, "/dev/i2c-12")
		time.Sleep(5 * time.Second)
		if err := p.I2C.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Errorf("plugged in again: %v", err)
		}
		if h := health(t, b); h.Name != "/dev/i2c-12" || h.Key != "usb-1-1.2" || h.State != hal.BusOpen || h.Reopens != 1 {
			t.Errorf("%+v", h)
		}
	})
}

// The kernel's hub worker waits until the handle is closed, so nobody may hold it who has nothing to say to the bus.
func TestUnplugWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11"}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		c := conn(t, b)
		time.Sleep(time.Hour)
		if got := s.state(); got != [3]int{1, 0, 0} {
			t.Fatalf("opened, closed, used %v", got)
		}
		s.plug(false, "")
		time.Sleep(1100 * time.Millisecond)
		if got := s.state(); got != [3]int{1, 1, 0} || health(t, b).State != hal.BusGone {
			t.Errorf("opened, closed, used %v, %+v", got, health(t, b))
		}
		s.plug(true, "/dev/i2c-11")
		for range 3 { // the watch begins again with each handle
			if err := c.Tx(t.Context(), []byte{1}, nil); err != nil {
				t.Error(err)
			}
			s.plug(false, "")
			time.Sleep(1100 * time.Millisecond)
			s.plug(true, "/dev/i2c-11")
			time.Sleep(5 * time.Second)
		}
		if got := s.state(); got != [3]int{4, 4, 3} {
			t.Errorf("opened, closed, used %v", got)
		}
	})
}

func TestOpenFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11", openErr: sysfsError(syscall.EACCES)}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		if _, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76}); err == nil || len(b.Health()) != 0 {
			t.Errorf("%v, %+v", err, b.Health())
		}
		s.openErr = nil
		c := conn(t, b)
		s.plug(false, "")
		time.Sleep(2 * time.Second)
		s.plug(true, "/dev/i2c-11")
		s.openErr = sysfsError(syscall.EACCES) // udev gives the rights a moment after the node
		if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "/dev/i2c-11") {
			t.Error(err)
		}
		s.openErr = nil
		time.Sleep(time.Second)
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(int, []byte, []byte) error { time.Sleep(time.Minute); return nil }}
		b := s.board(t)
		c := conn(t, b)
		_ = c.Tx(t.Context(), []byte{1}, nil)
		start := time.Now()
		if err := b.Close(); !errors.Is(err, hal.ErrTimeout) || !strings.Contains(err.Error(), "/dev/i2c-1") || time.Since(start) != hal.TxTimeout {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		time.Sleep(time.Minute)
		if got := s.state(); got != [3]int{1, 1, 1} {
			t.Errorf("after the hung transaction has ended: opened, closed, used %v", got)
		}
		if err := c.Tx(t.Context(), []byte{1}, nil); err == nil || s.state()[0] != 1 {
			t.Errorf("after Close: %v, opened %d times", err, s.state()[0])
		}
	})
}

func TestCloseReports(t *testing.T) {
	s := &script{closeErr: errOwn}
	b := s.board(t)
	c := conn(t, b)
	if err := b.Close(); !errors.Is(err, errOwn) {
		t.Error(err)
	}
	if err := c.Tx(t.Context(), []byte{1}, nil); err == nil || !strings.Contains(err.Error(), "closed") || s.state() != [3]int{1, 1, 0} {
		t.Errorf("%v, %v", err, s.state())
	}
}

// Many at once on a bus that fails in all ways; run with -race.
func TestManySensorsOnABadBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := []error{nil, nil, sysfsError(syscall.ENXIO), nil, sysfsError(syscall.EIO), sysfsError(syscall.ETIMEDOUT), sysfsError(syscall.ENODEV), nil}
		s := &script{name: "/dev/i2c-11"}
		s.tx = func(n int, w, r []byte) error {
			time.Sleep(time.Duration(n%7) * time.Millisecond)
			if n%97 == 0 {
				time.Sleep(3 * time.Second)
			}
			copy(r, w)
			return faults[n%len(faults)]
		}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		var sensors sync.WaitGroup
		good := make([]int, 8)
		for i := range good {
			c := conn(t, b)
			sensors.Go(func() {
				for range 200 {
					w, r := []byte{byte(i), 1, 2}, make([]byte, 3)
					err := c.Tx(t.Context(), w, r)
					if err == nil && !slices.Equal(w, r) {
						t.Errorf("read %x, want %x", r, w)
					}
					if err == nil {
						good[i]++
					}
					time.Sleep(time.Duration(100+i) * time.Millisecond)
					b.Health()
				}
			})
		}
		sensors.Wait()
		h := health(t, b)
		if s.most != 1 || slices.Min(good) == 0 || h.Transactions != 1600 || h.Errors+uint64(sum(good)) != 1600 {
			t.Errorf("%d at once, good %v, %+v", s.most, good, h)
		}
		if err := b.Close(); err != nil && !errors.Is(err, hal.ErrTimeout) {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		if got := s.state(); got[0] != got[1] {
			t.Errorf("opened %d, closed %d", got[0], got[1])
		}
	})
}

func sum(n []int) (total int) {
	for _, v := range n {
		total += v
	}
	return total
}

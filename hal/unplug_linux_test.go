// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
)

// An unplugged adapter fails before the kernel takes it out of sysfs. The first error says already that it is gone.
func TestFirstErrorOfAnUnplug(t *testing.T) {
	for name, errno := range map[string]syscall.Errno{"i2c-tiny-usb asked for its functions": syscall.EOPNOTSUPP, "i2c-tiny-usb": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{name: "/dev/i2c-11", tx: func(int, []byte, []byte) error { return sysfsError(errno) }}
				b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
				defer b.Close()
				c := conn(t, b)
				time.AfterFunc(150*time.Millisecond, func() { s.plug(false, "") })
				if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) || !errors.Is(err, errno) {
					t.Error(err)
				}
			})
		})
	}
}

// A transaction may hang on an adapter that was unplugged; it and those behind it say that the adapter is gone.
func TestUnplugInATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11"}
		s.tx = func(n int, _, _ []byte) error {
			if n == 0 {
				time.Sleep(2 * time.Second)
				return sysfsError(syscall.EIO)
			}
			return nil
		}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		c := conn(t, b)
		time.AfterFunc(300*time.Millisecond, func() { s.plug(false, "") })
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) || !errors.Is(err, hal.ErrTimeout) {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		time.Sleep(2 * time.Second)
		if got := s.state(); got != [3]int{1, 1, 1} || health(t, b).State != hal.BusGone {
			t.Errorf("opened, closed, used %v, %+v", got, health(t, b))
		}
		s.plug(true, "/dev/i2c-11")
		time.Sleep(time.Second)
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Errorf("plugged in again: %v", err)
		}
	})
}

// One that stays has only failed, and the others need not wait until that is known.
func TestErrorOfAnAdapterThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11", tx: func(n int, _, _ []byte) error {
			if n == 0 {
				return sysfsError(syscall.EOPNOTSUPP)
			}
			return nil
		}}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		c, start := conn(t, b), time.Now()
		first := make(chan error)
		go func() { first <- c.Tx(t.Context(), []byte{1}, nil) }()
		synctest.Wait()
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil || time.Since(start) != 0 {
			t.Errorf("another transaction: %v after %s", err, time.Since(start))
		}
		if err := <-first; errors.Is(err, hal.ErrGone) || !errors.Is(err, syscall.EOPNOTSUPP) || time.Since(start) > 400*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// The rights to a device file may be gone with the adapter that it belonged to.
func TestGoneWhileItIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11"}
		b := hal.NewBoard(hal.Wiring{ScanI2C: func() []hal.Bus[i2c.BusCloser] {
			buses := s.scan()
			for i := range buses {
				open := buses[i].Open
				buses[i].Open = func() (i2c.BusCloser, error) {
					if s.openErr != nil {
						s.plug(false, "") // between the look and the opening
					}
					return open()
				}
			}
			return buses
		}})
		defer b.Close()
		c := conn(t, b)
		s.plug(false, "")
		time.Sleep(2 * time.Second)
		s.plug(true, "/dev/i2c-11")
		s.openErr = errOwn
		if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) || !errors.Is(err, errOwn) {
			t.Error(err)
		}
	})
}

// adapter is a bus that a board may have or not.
func adapter(name, key string, usual bool, s *script) hal.Bus[i2c.BusCloser] {
	return hal.Bus[i2c.BusCloser]{Name: name, Key: key, Usual: usual, Open: s.open}
}

// A bus that was there once is gone, not unknown, by whatever name it is asked for.
func TestKnownBusIsGone(t *testing.T) {
	usb, own, other := &script{}, &script{}, &script{}
	usb11, usb12 := adapter("/dev/i2c-11", "usb-1-1.2", false, usb), adapter("/dev/i2c-12", "usb-1-1.2", false, usb)
	own1, other13 := adapter("/dev/i2c-1", "", true, own), adapter("/dev/i2c-13", "usb-1-1.3", false, other)
	type buses = []hal.Bus[i2c.BusCloser]
	for name, tc := range map[string]struct {
		before, now buses
		ask         string
		is          string // the bus that it means now
		gone        bool   // and that it is not there
	}{
		"the only one, unnamed":               {buses{usb11}, nil, "", "/dev/i2c-11", true},
		"the only one, by its number":         {buses{usb11}, nil, "/dev/i2c-11", "/dev/i2c-11", true},
		"the only one, by its place":          {buses{usb11}, nil, "usb-1-1.2", "/dev/i2c-11", true},
		"the usual one, unnamed":              {buses{own1, usb11}, buses{usb11}, "", "/dev/i2c-1", true},
		"the only one, exchanged":             {buses{usb11}, buses{other13}, "", "/dev/i2c-13", false},
		"the only one, another beside it":     {buses{usb11}, buses{usb11, other13}, "", "/dev/i2c-11", false},
		"back under another number, by place": {buses{usb11}, buses{usb12}, "usb-1-1.2", "/dev/i2c-12", false},
		"back, by its former number":          {buses{usb11}, buses{usb12}, "/dev/i2c-11", "/dev/i2c-12", false},
	} {
		for _, used := range []bool{true, false} {
			there := tc.before
			b := hal.NewBoard(hal.Wiring{ScanI2C: func() []hal.Bus[i2c.BusCloser] { return slices.Clone(there) }})
			ask := func() (hal.Port, error) { return b.Port(hal.Request{Kind: hal.I2C, Bus: tc.ask, Addr: 0x76}) }
			if b.Buses(hal.I2C); used {
				if _, err := ask(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			} else if name == "the only one, another beside it" || name == "back, by its former number" {
				continue // nobody has said which is meant
			}
			there = tc.now
			p, err := ask()
			if !used && tc.gone {
				if !errors.Is(err, hal.ErrGone) || errors.Is(err, hal.ErrNoBus) {
					t.Errorf("%s, never used: %v", name, err)
				}
			} else if err != nil || p.Name != tc.is+" address 0x76" {
				t.Errorf("%s, used before %t: %q, %v", name, used, p.Name, err)
			}
			if _, err := b.Claimed(tc.ask); errors.Is(err, hal.ErrGone) != tc.gone {
				t.Errorf("%s: claimed: %v", name, err)
			}
			if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: "/dev/i2c-99", Addr: 0x76}); !errors.Is(err, hal.ErrNoBus) || errors.Is(err, hal.ErrGone) {
				t.Errorf("a bus that never was: %v", err)
			}
		}
	}
}

// A sensor on the only bus, opened anew while the adapter is away, works when it is back.
func TestReopenedSensorWhileGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{name: "/dev/i2c-11"}
		b := hal.NewBoard(hal.Wiring{ScanI2C: s.scan})
		defer b.Close()
		conn(t, b)
		s.plug(false, "")
		time.Sleep(2 * time.Second)
		c := conn(t, b)
		if err := c.Tx(t.Context(), []byte{1}, nil); !errors.Is(err, hal.ErrGone) {
			t.Errorf("while it is gone: %v", err)
		}
		s.plug(true, "/dev/i2c-12")
		time.Sleep(5 * time.Second)
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Errorf("back: %v", err)
		}
	})
}

func TestKnownOneWireMasterIsGone(t *testing.T) {
	there := []string{"w1_bus_master1"}
	b := hal.NewBoard(hal.Wiring{ScanOneWire: func() []string { return there }})
	for _, name := range []string{"", "w1_bus_master1"} {
		if _, err := b.Port(hal.Request{Kind: hal.OneWire, Bus: name}); err != nil {
			t.Fatal(err)
		}
	}
	there = nil
	for _, name := range []string{"", "w1_bus_master1"} {
		if _, err := b.Port(hal.Request{Kind: hal.OneWire, Bus: name}); !errors.Is(err, hal.ErrGone) || errors.Is(err, hal.ErrNoBus) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := b.Port(hal.Request{Kind: hal.OneWire, Bus: "w1_bus_master2"}); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("one that never was: %v", err)
	}
}

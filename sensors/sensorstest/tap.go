// SPDX-License-Identifier: Apache-2.0

package sensorstest

import (
	"io/fs"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
)

// tap sits between a driver and its port: it counts the transactions and can spoil them. A transaction is one I²C Tx, one request,
// read, write or wait of a GPIO line, or one opening or read of a file or folder.
type tap struct {
	board *hal.Board

	mu    sync.Mutex
	count int
	plan  func(n int) error // for transaction n from now on
	fill  *byte
	txs   []tx // all of I²C
}

// tx is the shape of one I²C transaction.
type tx struct {
	wrote []byte
	read  int
}

// Port implements sensors.Porter.
func (t *tap) Port(r hal.Request) (hal.Port, error) {
	p, err := t.board.Port(r)
	if err != nil {
		return p, err
	}
	if p.I2C != nil {
		p.I2C = &hal.Conn{Bus: &tapBus{Bus: p.I2C.Bus, tap: t}, Addr: p.I2C.Addr}
	}
	if p.Pin != nil {
		p.Pin = &tapPin{p.Pin, t}
	}
	p.Files = &tapFiles{p.Files, t}
	return p, nil
}

func (t *tap) used() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// from sets a plan that counts transactions from the next one on.
func (t *tap) from(plan func(n int) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	start := t.count
	t.plan = func(n int) error { return plan(n - start) }
}

// failAt lets transaction i from now on fail; reached says whether it has come to that.
func (t *tap) failAt(i int) (reached *bool) {
	reached = new(bool)
	t.from(func(n int) error {
		if n == i {
			*reached = true
			return errInjected
		}
		return nil
	})
	return reached
}

func (t *tap) failAll(err error) { t.from(func(int) error { return err }) }

func (t *tap) callAt(i int, f func()) {
	t.from(func(n int) error {
		if n == i {
			f()
		}
		return nil
	})
}

func (t *tap) heal() { t.from(func(int) error { return nil }) }

func (t *tap) fillWith(b byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fill = &b
}

// next counts one transaction.
func (t *tap) next() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.count
	t.count++
	if t.plan == nil {
		return nil
	}
	return t.plan(n)
}

// overwrite replaces what was read, if the tap was told to.
func (t *tap) overwrite(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fill != nil {
		for i := range b {
			b[i] = *t.fill
		}
	}
}

func (t *tap) note(x tx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.txs = append(t.txs, x)
}

// transactions returns what was done on the I²C bus so far.
func (t *tap) transactions() []tx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.txs)
}

type tapBus struct {
	i2c.Bus
	tap *tap
}

func (b *tapBus) Tx(addr uint16, w, r []byte) error {
	if err := b.tap.next(); err != nil {
		return err
	}
	b.tap.note(tx{wrote: slices.Clone(w), read: len(r)})
	if err := b.Bus.Tx(addr, w, r); err != nil {
		return err
	}
	b.tap.overwrite(r)
	return nil
}

type tapPin struct {
	hal.Pin
	tap *tap
}

func (p *tapPin) Input(pull gpio.Pull, edge gpio.Edge) (hal.Line, error) {
	if err := p.tap.next(); err != nil {
		return nil, err
	}
	l, err := p.Pin.Input(pull, edge)
	if err != nil {
		return nil, err
	}
	return &tapLine{l, p.tap}, nil
}

func (p *tapPin) Output(level gpio.Level) (hal.Output, error) {
	if err := p.tap.next(); err != nil {
		return nil, err
	}
	o, err := p.Pin.Output(level)
	if err != nil {
		return nil, err
	}
	return &tapOutput{o, p.tap}, nil
}

type tapOutput struct {
	hal.Output
	tap *tap
}

func (o *tapOutput) Set(level gpio.Level) error {
	if err := o.tap.next(); err != nil {
		return err
	}
	return o.Output.Set(level)
}

func (o *tapOutput) Read() (gpio.Level, error) {
	if err := o.tap.next(); err != nil {
		return gpio.Low, err
	}
	return o.Output.Read()
}

type tapLine struct {
	hal.Line
	tap *tap
}

func (l *tapLine) Read() (gpio.Level, error) {
	if err := l.tap.next(); err != nil {
		return gpio.Low, err
	}
	return l.Line.Read()
}

// WaitForEdge waits first, since waits begin at times that the suite does not control.
func (l *tapLine) WaitForEdge(timeout time.Duration) (bool, error) {
	edge, err := l.Line.WaitForEdge(timeout)
	l.tap.mu.Lock()
	defer l.tap.mu.Unlock()
	if err == nil && l.tap.plan != nil {
		err = l.tap.plan(l.tap.count)
	}
	return edge && err == nil, err
}

type tapFiles struct {
	fs.FS
	tap *tap
}

func (f *tapFiles) Open(name string) (fs.File, error) {
	if err := f.tap.next(); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &tapFile{file, f.tap}, nil
}

type tapFile struct {
	fs.File
	tap *tap
}

func (f *tapFile) Read(b []byte) (int, error) {
	if err := f.tap.next(); err != nil {
		return 0, err
	}
	n, err := f.File.Read(b)
	f.tap.overwrite(b[:n])
	return n, err
}

// ReadDir implements fs.ReadDirFile, for fs.Glob.
func (f *tapFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if dir, ok := f.File.(fs.ReadDirFile); ok {
		if err := f.tap.next(); err != nil {
			return nil, err
		}
		return dir.ReadDir(n)
	}
	return nil, &fs.PathError{Op: "readdir", Err: fs.ErrInvalid}
}

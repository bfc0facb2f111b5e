// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/host/v3/sysfs"
)

// From linux/i2c-dev.h and linux/i2c.h.
const (
	ioctlRetries = 0x0701 // I2C_RETRIES: how often the kernel repeats after a lost arbitration
	ioctlTimeout = 0x0702 // I2C_TIMEOUT, in units of 10 ms
	ioctlFuncs   = 0x0705 // I2C_FUNCS
	funcI2C      = 1      // I2C_FUNC_I2C: the adapter can do plain messages

	// kernelTimeout is well below TxTimeout, so that the adapter's driver gives up, and frees the bus if it can, before we do.
	// A chip may stretch the clock for 25 ms in SMBus 2.0 §3.1.1; the slowest here need less. USB adapters have their own (i2c-tiny-usb: 2 s).
	kernelTimeout = 30
	kernelRetries = 2
)

// openI2C opens a bus through periph. Before, it sets time-out and retries of the adapter through a handle of its own, because
// periph offers neither; they belong to the adapter, hold for every program, and stay until somebody sets others or it goes.
func openI2C(number int) (i2c.BusCloser, error) {
	if err := setLimits(fmt.Sprintf("/dev/i2c-%d", number)); err != nil {
		return nil, err
	}
	bus, err := sysfs.NewI2C(number)
	if err != nil {
		return nil, classify(err)
	}
	return bus, nil
}

func setLimits(node string) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return classify(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	funcs, err := unix.IoctlGetInt(fd, ioctlFuncs)
	if err != nil {
		return fmt.Errorf("asking %s what it can do: %w", node, classify(err))
	}
	if funcs&funcI2C == 0 {
		return fmt.Errorf("%s does SMBus only (functions %#x), or does not answer: use another adapter", node, funcs)
	}
	for request, value := range map[uint]int{ioctlTimeout: kernelTimeout, ioctlRetries: kernelRetries} {
		if err := unix.IoctlSetInt(fd, request, value); err != nil {
			return fmt.Errorf("setting the limits of %s: %w", node, classify(err))
		}
	}
	return nil
}

// classify makes errors.Is see both the kernel's error and what it means, as kernel.org's i2c/fault-codes and the adapters' drivers have
// it. periph's sysfs formats the error number with %v, so that it must be found again by its text.
func classify(err error) error {
	if err == nil || errors.Is(err, ErrAbsent) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrGone) {
		return err
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		if errno = errnoOf(err.Error()); errno == 0 {
			return err
		}
		err = errno
	}
	if kind := kindOf(errno); kind != nil {
		return fmt.Errorf("%w: %w", err, kind)
	}
	return err
}

// errnoOf finds the error number whose text ends s; 0 if there is none.
func errnoOf(s string) syscall.Errno {
	const last = 132 // ERFKILL, the last that package syscall has a text for
	for n := syscall.Errno(1); n <= last; n++ {
		if text := n.Error(); s == text || strings.HasSuffix(s, ": "+text) {
			return n
		}
	}
	return 0
}

func kindOf(errno syscall.Errno) error {
	switch errno {
	case syscall.ENXIO, syscall.EREMOTEIO: // which of the two a driver says for a missing acknowledge is its own choice
		return ErrAbsent
	case syscall.ETIMEDOUT, syscall.EBUSY, syscall.ETIME:
		return ErrTimeout
	case syscall.ENODEV, syscall.ESHUTDOWN, syscall.EBADF, syscall.ENOENT, syscall.EPIPE, syscall.EPROTO:
		return ErrGone // the last two by USB adapters that are being unplugged
	}
	return nil
}

func isTransient(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EIO)
}

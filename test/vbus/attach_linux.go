// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What vhci_hcd calls its files, states and speeds (Linux, drivers/usb/usbip/vhci_sysfs.c).
const (
	controller = "/sys/devices/platform/vhci_hcd.0"
	portFree   = "004" // VDEV_ST_NULL
	fullSpeed  = 2
	deviceID   = 1<<16 | 2 // any bus and device number
	patience   = 10 * time.Second
)

// plug connects a device to a port of the kernel's virtual USB host controller: the one named, by which programs know the adapter again, or
// with "" a free one. Closing the connection unplugs it.
func plug(port string) (conn net.Conn, at string, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("vbus: making a socket pair: %w", err)
	}
	kernel, own := os.NewFile(uintptr(pair[0]), "kernel"), os.NewFile(uintptr(pair[1]), "device")
	defer func() { _, _ = kernel.Close(), own.Close() }() // the kernel and conn have their own references
	if port, err = freePort(port); err != nil {
		return nil, "", err
	}
	line := fmt.Sprintf("%s %d %d %d", port, kernel.Fd(), deviceID, fullSpeed)
	if err := os.WriteFile(filepath.Join(controller, "attach"), []byte(line), 0); err != nil {
		return nil, "", explain(fmt.Errorf("vbus: attaching to port %s: %w", port, err))
	}
	if conn, err = net.FileConn(own); err != nil {
		return nil, "", fmt.Errorf("vbus: %w", err)
	}
	return conn, port, nil
}

// freePort returns the first free full-speed port, or waits until the one named is: right after an unplug the kernel is still busy with it.
func freePort(named string) (string, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, err := os.ReadFile(filepath.Join(controller, "status"))
		if err != nil {
			return "", explain(fmt.Errorf("vbus: looking for the virtual USB controller: %w", err))
		}
		for line := range strings.Lines(string(status)) { // hub port sta spd dev sockfd local_busid
			if f := strings.Fields(line); len(f) > 2 && f[0] == "hs" && f[2] == portFree && (named == "" || named == f[1]) {
				return f[1], nil
			}
		}
		if time.Now().After(deadline) {
			return "", errors.New("vbus: no port of the virtual USB controller is free: stop what uses it (usbip port)")
		}
	}
}

func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: load the module: modprobe vhci-hcd", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root", err)
	}
	return err
}

// adapters lists the I²C buses that i2c-tiny-usb adapters have.
func adapters() (found []string) {
	names, err := filepath.Glob("/sys/bus/i2c/devices/i2c-*/name")
	if err != nil { // only a malformed pattern
		return nil
	}
	for _, file := range names {
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), "i2c-tiny-usb") {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}

// newBus waits for the bus that was not there before and returns its device file.
func newBus(before []string) (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, name := range adapters() {
			if !slices.Contains(before, name) {
				return devFile(name, deadline)
			}
		}
	}
	return "", errors.New("vbus: the kernel made no I²C bus of the adapter: load the module: modprobe i2c-tiny-usb")
}

func devFile(name string, deadline time.Time) (string, error) {
	for ; time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat("/dev/" + name); err == nil {
			return "/dev/" + name, nil
		}
	}
	return "", fmt.Errorf("vbus: the bus %s has no device file: load the module: modprobe i2c-dev", name)
}

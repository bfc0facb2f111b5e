// SPDX-License-Identifier: Apache-2.0

// Package sysfs reads measurements that the kernel's own drivers offer as small text files below /sys: it finds a device by name, reads
// numbers strictly, and makes segments of quantities' names from labels. The drivers host, hwmon and iio stand on it.
//
// Start with Open.
package sysfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/streembit/edge/hal"
)

// ErrFormat is wrapped when a file does not look as the kernel writes it.
var ErrFormat = errors.New("the file is not as the kernel writes it")

// Device is one folder of a class, for example sys/class/hwmon/hwmon2, that has a file name. It is not safe for concurrent use.
type Device struct {
	Files  fs.FS
	Name   string // what the kernel's driver calls the chip
	class  string
	prefix string
	folder string
}

// Open finds the device of a class whose folder or name is want; "" takes the only one. The error lists the devices that there are.
func Open(files fs.FS, class, prefix, want string) (*Device, error) {
	d := &Device{Files: files, class: class, prefix: prefix}
	if err := d.find(func(folder, name string) bool { return want == "" || want == folder || want == name }); err != nil {
		return nil, err
	}
	return d, nil
}

// Folder returns the path of the device's folder, which is another one after the device was unplugged and came back. The name is read
// each time, since the kernel may give the old folder's number to another chip.
func (d *Device) Folder() (string, error) {
	name, err := Text(d.Files, path.Join(d.class, d.folder, "name"))
	if err == nil && name == d.Name {
		return path.Join(d.class, d.folder), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := d.find(func(_, name string) bool { return name == d.Name }); err != nil {
		return "", fmt.Errorf("%s is no longer in %s: %w: %w", d.Name, d.class, hal.ErrGone, err)
	}
	return path.Join(d.class, d.folder), nil
}

func (d *Device) find(fits func(folder, name string) bool) error {
	entries, err := fs.ReadDir(d.Files, d.class)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var found [][2]string
	var have []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), d.prefix) {
			continue
		}
		name, err := Text(d.Files, path.Join(d.class, e.Name(), "name"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		have = append(have, fmt.Sprintf("%.40q (%s)", name, e.Name()))
		if fits(e.Name(), name) {
			found = append(found, [2]string{e.Name(), name})
		}
	}
	switch {
	case len(have) == 0:
		return fmt.Errorf("no device in %s: %w: load the kernel's driver for the chip", d.class, hal.ErrNoBus)
	case len(found) == 0:
		return fmt.Errorf("no such device in %s: %w, which has %s", d.class, hal.ErrNoBus, strings.Join(have, ", "))
	case len(found) > 1:
		return fmt.Errorf("option device fits several: use one of %s", strings.Join(have, ", "))
	}
	d.folder, d.Name = found[0][0], found[0][1]
	return nil
}

// List returns the names of the files in the device's folder.
func (d *Device) List() ([]string, error) {
	folder, err := d.Folder()
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(d.Files, folder)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Text reads a file of one line.
func Text(files fs.FS, name string) (string, error) {
	b, err := fs.ReadFile(files, name)
	return strings.TrimSpace(string(b)), err
}

// Number reads a file that holds one decimal number. The error names the file.
func Number(files fs.FS, name string) (float64, error) {
	text, err := Text(files, name)
	if err != nil {
		return 0, err
	}
	v, err := ParseNumber(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// ParseNumber reads what the kernel writes: "-12", "23.5", "0.125000000". No exponent, no infinity, less than 10¹⁵.
func ParseNumber(text string) (float64, error) {
	digits := func(s string) bool {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	}
	whole, fraction, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !digits(whole) || point && !digits(fraction) || v >= 1e15 || v <= -1e15 {
		return 0, fmt.Errorf("%.20q: %w", text, ErrFormat)
	}
	return v, nil
}

// Chosen splits a list of channels as an option has it, "temp1, in0"; "" fits all. The error names channels that the device lacks.
func Chosen(option string, have []string) ([]string, error) {
	if strings.TrimSpace(option) == "" {
		return have, nil
	}
	var chosen []string
	for c := range strings.SplitSeq(option, ",") {
		if c = strings.TrimSpace(c); !slices.Contains(have, c) {
			return nil, fmt.Errorf("option channels: there is no %q: use %s", c, strings.Join(have, ", "))
		}
		chosen = append(chosen, c)
	}
	return chosen, nil
}

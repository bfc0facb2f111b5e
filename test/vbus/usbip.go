// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// USB/IP between the kernel's virtual host controller and a device (Linux, Documentation/usb/usbip_protocol.rst). All numbers are big-endian.
const (
	cmdSubmit = 1
	cmdUnlink = 2
	retSubmit = 3
	retUnlink = 4

	headerSize = 48
	stalled    = -32      // -EPIPE: the device does not do what was asked
	maxData    = 64 << 10 // of a transfer; the kernel's I²C messages have at most 8 KiB
)

// command is what the host asks. Of an unlink only the numbers are set.
type command struct {
	code   uint32
	seq    uint32 // the answer carries it
	in     bool   // the host reads
	ep     uint32 // endpoint
	unlink uint32 // number of the command that is taken back
	length uint32 // bytes of data
	setup  [8]byte
}

// errProtocol: what came is not USB/IP. The connection is of no more use.
var errProtocol = errors.New("vbus: not USB/IP")

// parseCommand reads a header.
func parseCommand(h [headerSize]byte) (command, error) {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(h[4*i:]) }
	c := command{code: word(0), seq: word(1), in: word(3) == 1, ep: word(4)}
	switch c.code {
	case cmdUnlink:
		c.unlink = word(5)
		return c, nil
	case cmdSubmit:
		c.length = word(6)
		c.setup = [8]byte(h[40:])
		if word(3) > 1 || c.length > maxData {
			return command{}, fmt.Errorf("%w: direction %d, %d bytes of data", errProtocol, word(3), c.length)
		}
		return c, nil
	}
	return command{}, fmt.Errorf("%w: command %d", errProtocol, c.code)
}

// reply builds the answer to c: for a submit its status, how many bytes were transferred and, if the host reads, these.
func (c command) reply(status int32, actual int, data []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(data))
	binary.BigEndian.PutUint32(out, retSubmit)
	if c.code == cmdUnlink {
		binary.BigEndian.PutUint32(out, retUnlink)
	}
	binary.BigEndian.PutUint32(out[4:], c.seq)
	binary.BigEndian.PutUint32(out[20:], uint32(status))
	binary.BigEndian.PutUint32(out[24:], uint32(actual))
	return append(out, data...)
}

// device answers the control transfers of endpoint 0, the only one there is.
type device interface {
	// control takes the data that the host writes, or returns what it reads, at most as much as setup asks for. An error stalls the endpoint.
	control(s setup, data []byte) ([]byte, error)
}

// setup is the first stage of a control transfer (USB 2.0 §9.3).
type setup struct {
	kind, request        byte // bmRequestType, bRequest
	value, index, length uint16
}

func parseSetup(b [8]byte) setup {
	return setup{b[0], b[1], binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])}
}

// serve answers commands until the connection ends: nil when the other side closed it.
func serve(conn io.ReadWriter, d device) error {
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(conn, h[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("vbus: reading from the kernel: %w", err)
		}
		c, err := parseCommand(h)
		if err != nil {
			return err
		}
		var data []byte
		if c.code == cmdSubmit && !c.in {
			data = make([]byte, c.length)
			if _, err := io.ReadFull(conn, data); err != nil {
				return fmt.Errorf("vbus: reading from the kernel: %w", err)
			}
		}
		if _, err := conn.Write(answer(c, data, d)); err != nil {
			return fmt.Errorf("vbus: answering the kernel: %w", err)
		}
	}
}

// answer carries c out. A command that is taken back was answered already, since they are served one after another: status 0 says so.
func answer(c command, data []byte, d device) []byte {
	if c.code == cmdUnlink {
		return c.reply(0, 0, nil)
	}
	if c.ep != 0 {
		return c.reply(stalled, 0, nil)
	}
	read, err := d.control(parseSetup(c.setup), data)
	switch {
	case err != nil:
		return c.reply(stalled, 0, nil)
	case !c.in:
		return c.reply(0, len(data), nil)
	}
	read = read[:min(len(read), int(c.length))]
	return c.reply(0, len(read), read)
}

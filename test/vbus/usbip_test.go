// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
)

// kernel is the host's side of a connection.
type kernel struct {
	t    *testing.T
	conn net.Conn
	seq  uint32
}

// connect serves an adapter with the bus until the test ends.
func connect(t *testing.T, bus transactor) *kernel {
	t.Helper()
	host, dev := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(dev, &adapter{bus: bus}) }()
	t.Cleanup(func() {
		_ = host.Close()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	must(t, host.SetDeadline(time.Now().Add(10*time.Second)))
	return &kernel{t: t, conn: host}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// control sends a control transfer and returns the status, how many bytes were transferred, and what was read.
func (k *kernel) control(kind, request byte, value, index uint16, data []byte, read int) (status int32, actual int, got []byte) {
	k.t.Helper()
	k.seq++
	h := make([]byte, headerSize)
	put := func(i int, v uint32) { binary.BigEndian.PutUint32(h[4*i:], v) }
	put(0, cmdSubmit)
	put(1, k.seq)
	put(2, deviceNumber)
	length := len(data)
	if kind&0x80 != 0 {
		put(3, 1)
		length = read
	}
	put(6, uint32(length))
	h[40], h[41] = kind, request
	binary.LittleEndian.PutUint16(h[42:], value)
	binary.LittleEndian.PutUint16(h[44:], index)
	binary.LittleEndian.PutUint16(h[46:], uint16(length))
	_, err := k.conn.Write(append(h, data...))
	must(k.t, err)
	answer := make([]byte, headerSize)
	_, err = io.ReadFull(k.conn, answer)
	must(k.t, err)
	word := func(i int) uint32 { return binary.BigEndian.Uint32(answer[4*i:]) }
	if word(0) != retSubmit || word(1) != k.seq {
		k.t.Fatalf("answer %d to %d, want %d to %d", word(0), word(1), retSubmit, k.seq)
	}
	status, actual = int32(word(5)), int(word(6))
	if kind&0x80 != 0 {
		got = make([]byte, actual)
		_, err = io.ReadFull(k.conn, got)
		must(k.t, err)
	}
	return status, actual, got
}

const deviceNumber = 1<<16 | 2

// transfer does what usb_xfer of the kernel's driver does with the messages of one I²C transfer: each is written bytes, or as many zeros as are to be read.
func (k *kernel) transfer(addr uint16, messages ...message) (read []byte, err error) {
	k.t.Helper()
	for i, m := range messages {
		request := byte(ioMessage)
		if i == 0 {
			request |= ioBegin
		}
		if i == len(messages)-1 {
			request |= ioEnd
		}
		var status int32
		if m.read > 0 {
			var got []byte
			if status, _, got = k.control(0xc1, request, 1, addr, nil, m.read); status == 0 && len(got) != m.read {
				k.t.Fatalf("%d bytes, want %d", len(got), m.read)
			}
			read = append(read, got...)
		} else {
			var actual int
			if status, actual, _ = k.control(0x41, request, 0, addr, m.write, 0); status == 0 && actual != len(m.write) {
				k.t.Fatalf("%d bytes were taken, want %d", actual, len(m.write))
			}
		}
		if status != 0 {
			return nil, errIO
		}
		if _, _, ack := k.control(0xc1, getStatus, 0, 0, nil, 1); ack[0] == statusNAK {
			return nil, errNoDevice
		}
	}
	return read, nil
}

type message struct {
	write []byte
	read  int
}

var (
	errIO       = errors.New("EIO")
	errNoDevice = errors.New("ENXIO")
)

// script is a bus that notes the transactions and answers from a map by "addr written length".
type script struct {
	seen []string
	give map[string][]byte
	fail map[uint16]error
}

func (s *script) Tx(addr uint16, w, r []byte) error {
	call := fmt.Sprintf("%02x %x %d", addr, w, len(r))
	s.seen = append(s.seen, call)
	copy(r, s.give[call])
	return s.fail[addr]
}

// The answers of the bytes on the wire are golden: they are what a kernel has taken.
func TestWire(t *testing.T) {
	const ids = "12011001ff0000080304" + "31c6" + "0502" + "01020001"
	for name, c := range map[string]struct{ send, want string }{
		"device descriptor": {
			"00000001 00000007 00010002 00000001 00000000 00000200 00000012 00000000 00000000 00000000 8006000100001200",
			"00000003 00000007 00000000 00000000 00000000 00000000 00000012 00000000 00000000 00000000 0000000000000000" + ids,
		},
		"first 8 bytes of it": {
			"00000001 00000008 00010002 00000001 00000000 00000200 00000008 00000000 00000000 00000000 8006000100004000",
			"00000003 00000008 00000000 00000000 00000000 00000000 00000008 00000000 00000000 00000000 0000000000000000" + ids[:16],
		},
		"unknown descriptor stalls": {
			"00000001 00000009 00010002 00000001 00000000 00000200 0000000a 00000000 00000000 00000000 8006000600000a00",
			"00000003 00000009 00000000 00000000 00000000 ffffffe0 00000000 00000000 00000000 00000000 0000000000000000",
		},
		"other endpoint stalls": {
			"00000001 0000000a 00010002 00000001 00000001 00000200 00000002 00000000 00000000 00000000 0000000000000000",
			"00000003 0000000a 00000000 00000000 00000000 ffffffe0 00000000 00000000 00000000 00000000 0000000000000000",
		},
		"unlink": {
			"00000002 0000000b 00010002 00000000 00000000 0000000a 00000000 00000000 00000000 00000000 0000000000000000",
			"00000004 0000000b 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 0000000000000000",
		},
		"two bytes written": {
			"00000001 0000000c 00010002 00000000 00000000 00000000 00000002 00000000 00000000 00000000 4107000076000200 e0b6",
			"00000003 0000000c 00000000 00000000 00000000 00000000 00000002 00000000 00000000 00000000 0000000000000000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			unhex := func(s string) []byte {
				b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
				must(t, err)
				return b
			}
			var out bytes.Buffer
			must(t, serve(struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(unhex(c.send)), &out}, &adapter{bus: &script{}}))
			if got := hex.EncodeToString(out.Bytes()); got != hex.EncodeToString(unhex(c.want)) {
				t.Errorf("answer %s", got)
			}
		})
	}
}

// A chip sees a transaction where the kernel sends a write and a read, and each fault as the error that the kernel makes of it.
func TestTransfers(t *testing.T) {
	bus := &script{
		give: map[string][]byte{"76 d0 1": {0x60}, "76  2": {1, 2}, "50 00 3": {7, 8, 9}},
		fail: map[uint16]error{0x77: fmt.Errorf("chip: %w", sim.ErrNAK), 0x70: hal.ErrTimeout},
	}
	k := connect(t, bus)
	for _, c := range []struct {
		what     string
		addr     uint16
		messages []message
		read     string
		err      error
		seen     string
	}{
		{"write, then read", 0x76, []message{{write: []byte{0xd0}}, {read: 1}}, "60", nil, "[76 d0 1]"},
		{"read", 0x76, []message{{read: 2}}, "0102", nil, "[76  2]"},
		{"write", 0x76, []message{{write: []byte{0xf4, 0x25}}}, "", nil, "[76 f425 0]"},
		{"nothing written: a probe", 0x76, []message{{}}, "", nil, "[76  0]"},
		{"two writes", 0x76, []message{{write: []byte{1}}, {write: []byte{2}}}, "", nil, "[76 01 0 76 02 0]"},
		{"two reads", 0x50, []message{{write: []byte{0}}, {read: 3}, {read: 1}}, "07080900", nil, "[50 00 3 50  1]"},
		{"nobody, write", 0x77, []message{{write: []byte{1}}}, "", errNoDevice, "[77 01 0]"},
		{"nobody, write and read", 0x77, []message{{write: []byte{1}}, {read: 1}}, "", errNoDevice, "[77 01 1]"},
		{"nobody, two writes", 0x77, []message{{write: []byte{1}}, {write: []byte{2}}}, "", errNoDevice, "[77 01 0]"},
		{"stuck", 0x70, []message{{write: []byte{1}}, {read: 1}}, "", errIO, "[70 01 1]"},
		{"after that", 0x76, []message{{read: 2}}, "0102", nil, "[76  2]"},
	} {
		bus.seen = nil
		read, err := k.transfer(c.addr, c.messages...)
		if !errors.Is(err, c.err) || hex.EncodeToString(read) != c.read || fmt.Sprint(bus.seen) != c.seen {
			t.Errorf("%s: %x, %v, the bus saw %v", c.what, read, err, bus.seen)
		}
	}
	if _, _, f := k.control(0xc1, getFunc, 0, 0, nil, 4); hex.EncodeToString(f) != "0900ff0e" {
		t.Errorf("functions %x", f)
	}
}

// A stream that is not USB/IP ends the connection with an error and is not answered.
func TestGarbage(t *testing.T) {
	for _, h := range []string{
		strings.Repeat("00", headerSize),                                              // no such command
		"00000001" + strings.Repeat("00", 20) + "00010001" + strings.Repeat("00", 20), // 64 KiB and a byte
		"000000010000000100010002" + "00000002" + strings.Repeat("00", 32),            // no such direction
	} {
		b, err := hex.DecodeString(h)
		must(t, err)
		var out bytes.Buffer
		err = serve(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), &out}, &adapter{bus: &script{}})
		if !errors.Is(err, errProtocol) || out.Len() > 0 {
			t.Errorf("%s: %v, answered %x", h, err, out.Bytes())
		}
	}
}

// FuzzServe wants an answer with the right number to each complete command, up to the first that is none, whatever the bytes are. The
// oracle counts the commands by the protocol's text, not with the decoder.
func FuzzServe(f *testing.F) {
	submit := make([]byte, headerSize)
	submit[3], submit[7], submit[27], submit[40], submit[41], submit[46] = 1, 9, 2, 0x41, 7, 2
	f.Add(append(submit, 0xf4, 0x25))
	f.Add(append(append(bytes.Clone(submit), 0xf4, 0x25), submit...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var out bytes.Buffer
		_ = serve(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(stream), &out}, &adapter{bus: &script{}})
		var want []uint32
		for rest := stream; len(rest) >= 48; {
			code, seq, dir := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:]), binary.BigEndian.Uint32(rest[12:])
			size := binary.BigEndian.Uint32(rest[24:])
			body := 0
			if code == 1 && dir == 0 {
				body = int(min(size, 1<<20))
			}
			if code != 1 && code != 2 || code == 1 && (dir > 1 || size > 65536) || len(rest) < 48+body {
				break
			}
			want, rest = append(want, seq), rest[48+body:]
		}
		var got []uint32
		for rest := out.Bytes(); len(rest) > 0; {
			if len(rest) < 48 {
				t.Fatalf("half an answer: %x", rest)
			}
			got = append(got, binary.BigEndian.Uint32(rest[4:]))
			body := 0
			if asked := asker(stream, len(got)-1); binary.BigEndian.Uint32(rest) == 3 && asked {
				body = int(binary.BigEndian.Uint32(rest[24:]))
			}
			rest = rest[48+body:]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("answers to %v, want to %v", got, want)
		}
	})
}

// asker reports whether the n-th command of a stream reads, so that data follows its answer.
func asker(stream []byte, n int) bool {
	for rest := stream; ; n-- {
		code, dir, size := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[12:]), binary.BigEndian.Uint32(rest[24:])
		if n == 0 {
			return code == 1 && dir == 1
		}
		if rest = rest[48:]; code == 1 && dir == 0 {
			rest = rest[size:]
		}
	}
}

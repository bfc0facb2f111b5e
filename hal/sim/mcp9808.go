// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// Registers of the MCP9808 (Microchip DS25095A §5.1).
const (
	mcpCapability   = 0x0 // reserved; its value is in the summary of register 5-1
	mcpConfig       = 0x1
	mcpUpper        = 0x2
	mcpLower        = 0x3
	mcpCritical     = 0x4
	mcpAmbient      = 0x5
	mcpManufacturer = 0x6
	mcpDevice       = 0x7
	mcpResolution   = 0x8

	mcpHysteresis   = 3 << 9
	mcpShutdown     = 1 << 8
	mcpCriticalLock = 1 << 7
	mcpWindowLock   = 1 << 6
	mcpClear        = 1 << 5
	mcpAsserted     = 1 << 4
	mcpEnabled      = 1 << 3
	mcpCriticalOnly = 1 << 2
	mcpInverted     = 1 << 1
	mcpInterrupt    = 1 << 0
	mcpAlertSetup   = mcpEnabled | mcpCriticalOnly | mcpInverted | mcpInterrupt

	mcpAboveCritical = 1 << 15 // flags of the ambient temperature register
	mcpAboveUpper    = 1 << 14
	mcpBelowLower    = 1 << 13
)

// MCP9808 models Microchip's MCP9808: four resolutions, limits with hysteresis and locks, the alert status, shutdown. Used through a Bus.
type MCP9808 struct {
	now     func() time.Time
	celsius func(time.Time) float64
	conv    conversions
	pointer byte
	regs    [9]uint16
	pending bool // interrupt mode: an alert that nobody has cleared
}

// NewMCP9808 returns a chip that has just been powered: it measures at 1/16 °C, all limits are 0 °C (§5.3).
func NewMCP9808(now func() time.Time, celsius func(time.Time) float64) *MCP9808 {
	c := &MCP9808{now: now, celsius: celsius}
	c.regs[mcpCapability], c.regs[mcpManufacturer], c.regs[mcpDevice], c.regs[mcpResolution] = 0x001f, 0x0054, 0x0400, 3
	c.run()
	return c
}

// run starts conversions, back to back. The times are typical, the data sheet has no others (§5.2.4, table 5-2).
func (c *MCP9808) run() {
	times := [...]time.Duration{30 * time.Millisecond, 65 * time.Millisecond, 130 * time.Millisecond, 250 * time.Millisecond}
	t := times[c.regs[mcpResolution]]
	c.conv = conversions{start: c.now(), length: t, period: t}
}

// Tx implements Device. Of the pointer four bits count (register 5-1). All registers have 16 bits, except for the resolution.
func (c *MCP9808) Tx(w, r []byte) error {
	c.conv.advance(c.now(), c.convert)
	if len(w) > 0 {
		c.pointer = w[0] & 0xf
		c.write(w[1:])
	}
	switch {
	case c.pointer == mcpResolution:
		answer(r, byte(c.regs[mcpResolution]))
	case int(c.pointer) < len(c.regs):
		answerWord(r, c.regs[c.pointer])
	default: // for the factory; what they hold is not published
		answerWord(r, 0)
	}
	return nil
}

func (c *MCP9808) write(data []byte) {
	if c.pointer == mcpResolution && len(data) > 0 {
		if was := c.regs[mcpResolution]; was != uint16(data[0]&3) {
			c.regs[mcpResolution] = uint16(data[0] & 3)
			if c.conv.length > 0 {
				c.run()
			}
		}
		return
	}
	if len(data) < 2 {
		return
	}
	value := uint16(data[0])<<8 | uint16(data[1])
	switch lock := c.regs[mcpConfig]; c.pointer {
	case mcpConfig:
		c.configure(value)
	case mcpUpper, mcpLower:
		if lock&mcpWindowLock == 0 {
			c.regs[c.pointer] = value & 0x1ffc // 11 bits (register 5-3)
		}
	case mcpCritical:
		if lock&mcpCriticalLock == 0 {
			c.regs[c.pointer] = value & 0x1ffc
		}
	}
}

// configure follows register 5-2: locks stay until power-down, and while one is set neither the hysteresis nor the alert's set-up can be
// changed, nor the shutdown bit be set; it can be cleared.
func (c *MCP9808) configure(value uint16) {
	was := c.regs[mcpConfig]
	next := was | value&(mcpCriticalLock|mcpWindowLock)
	if was&(mcpCriticalLock|mcpWindowLock) == 0 {
		next = next&^(mcpHysteresis|mcpAlertSetup|mcpShutdown) | value&(mcpHysteresis|mcpAlertSetup|mcpShutdown)
	} else if value&mcpShutdown == 0 {
		next &^= mcpShutdown
	}
	if value&mcpClear != 0 && c.pending {
		c.pending = false
		next &^= mcpAsserted
	}
	c.regs[mcpConfig] = next
	switch {
	case next&mcpShutdown != 0:
		c.conv = conversions{}
	case was&mcpShutdown != 0:
		c.run()
	}
}

// convert sets the ambient temperature register: 13 bits and three flags, which have the hysteresis on the way down (figure 5-10).
func (c *MCP9808) convert(end time.Time) {
	coarse := 3 - c.regs[mcpResolution]
	t := quantise(c.celsius(end), float64(int(1)<<coarse)/16, -4096>>coarse, 4095>>coarse) << coarse // 1/16 °C
	hysteresis := [...]int{0, 24, 48, 96}[c.regs[mcpConfig]&mcpHysteresis>>9]
	was := c.regs[mcpAmbient]
	flags := was
	hold := func(flag uint16, set, clear bool) {
		if set {
			flags |= flag
		} else if clear {
			flags &^= flag
		}
	}
	critical, upper, lower := c.limit(mcpCritical), c.limit(mcpUpper), c.limit(mcpLower)
	hold(mcpAboveCritical, t >= critical, t < critical-hysteresis)
	hold(mcpAboveUpper, t > upper, t <= upper-hysteresis)
	hold(mcpBelowLower, t < lower-hysteresis, t >= lower)
	const window = mcpAboveUpper | mcpBelowLower
	c.regs[mcpAmbient] = flags&(mcpAboveCritical|window) | uint16(t)&0x1fff
	c.assert(flags&mcpAboveCritical != 0, flags&window != 0, (flags^was)&window != 0)
}

// limit returns a limit in 1/16 °C.
func (c *MCP9808) limit(reg int) int { return int(int16(c.regs[reg]<<3)) >> 3 }

// assert sets the alert status. Above the critical limit the output is a comparator in either mode (figure 5-10, note 6).
func (c *MCP9808) assert(critical, outside, crossed bool) {
	config := c.regs[mcpConfig]
	on := critical
	switch {
	case config&mcpEnabled == 0:
		on, c.pending = false, false
	case config&mcpCriticalOnly != 0:
	case config&mcpInterrupt != 0:
		c.pending = c.pending || crossed
		on = on || c.pending
	default:
		on = on || outside
	}
	if c.regs[mcpConfig] = config &^ mcpAsserted; on {
		c.regs[mcpConfig] |= mcpAsserted
	}
}

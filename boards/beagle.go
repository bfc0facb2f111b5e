// SPDX-License-Identifier: Apache-2.0

package boards

import (
	"fmt"
	"time"
)

// beagleBones: the kernel's gpio-omap labels a chip by the order in which it found it ("gpio-32-63" is the second one, whichever bank that
// is), so that chips are found by their nodes.
func beagleBones() []Board {
	black := Board{
		ID: "beaglebone-black", Name: "BeagleBone Black", Compatible: []string{"ti,am335x-bone-black", "ti,am335x-bone-black-wireless"},
		GOARCH: "arm", GOARM: "7", Header: "P8_n and P9_n: pin n of the headers P8 and P9; A and B: two lines share the pin", Pins: bonePins(true),
		I2C:       Bus{Number: 2, Nodes: []string{"target-module@9c000/i2c@0", "i2c@4819c000"}},
		EnableI2C: "I2C2 (P9_19, P9_20) is on by default: look for an overlay in /boot/uEnv.txt that switches it off",
		SPI:       "/dev/spidev0.0", EnableSPI: "add the overlay BB-SPIDEV0-00A0.dtbo to /boot/uEnv.txt and restart the board",
		OneWire:  OneWire{Line: "GPIO1_28", Enable: "set uboot_overlay_addr4=BB-W1-P9.12-00A0.dtbo in /boot/uEnv.txt and restart the board"},
		Watchdog: Watchdog{Device: "/dev/watchdog", Driver: "omap_wdt", Longest: 24 * time.Hour},
		Checked: "device trees arch/arm/boot/dts/ti/omap/am335x-boneblack.dts, am335x-bonegreen.dts, am335x-bone-common.dtsi of Linux 6.12 (compatible, " +
			"lines, EEPROMs, PMIC); drivers/gpio/gpio-omap.c; drivers/watchdog/omap_wdt.h; overlays: ti/omap/*.dtso of beagleboard/linux and BeagleBone Cookbook",
	}
	i2c0 := Bus{Number: 0, Nodes: []string{"target-module@b000/i2c@0", "i2c@44e0b000"}}
	black.Reserved = []Reserved{
		{black.I2C, 0x54, 0x57, "EEPROMs of capes: the board boots by what is written there"},
		{i2c0, 0x50, 0x50, "the board's own EEPROM: without its content the board does not boot"},
		{i2c0, 0x24, 0x24, "the chip that makes the board's supply voltages (TPS65217)"},
		{i2c0, 0x34, 0x34, "the HDMI chip (TDA19988)"},
		{i2c0, 0x70, 0x70, "the HDMI chip (TDA19988)"},
	}
	green := black
	green.ID, green.Name, green.Pins = "beaglebone-green", "BeagleBone Green", bonePins(false)
	green.Reserved = black.Reserved[:3] // no HDMI
	green.Compatible = []string{"ti,am335x-bone-green", "ti,am335x-bone-green-wireless"}
	return []Board{black, green}
}

// bonePins names a line as TI does, by bank and number: GPIO1_28. The Green has no HDMI.
func bonePins(hdmi bool) []Pin {
	node := [...]string{"target-module@7000/gpio@0", "target-module@4c000/gpio@0", "target-module@ac000/gpio@0", "target-module@ae000/gpio@0"}
	var pins []Pin
	for _, p := range [...]struct {
		header       string
		bank, offset int
		use          string
	}{
		{"P8_3", 1, 6, "eMMC"}, {"P8_4", 1, 7, "eMMC"}, {"P8_5", 1, 2, "eMMC"}, {"P8_6", 1, 3, "eMMC"}, {"P8_7", 2, 2, ""},
		{"P8_8", 2, 3, ""}, {"P8_9", 2, 5, ""}, {"P8_10", 2, 4, ""}, {"P8_11", 1, 13, ""}, {"P8_12", 1, 12, ""},
		{"P8_13", 0, 23, ""}, {"P8_14", 0, 26, ""}, {"P8_15", 1, 15, ""}, {"P8_16", 1, 14, ""}, {"P8_17", 0, 27, ""},
		{"P8_18", 2, 1, ""}, {"P8_19", 0, 22, ""}, {"P8_20", 1, 31, "eMMC"}, {"P8_21", 1, 30, "eMMC"}, {"P8_22", 1, 5, "eMMC"},
		{"P8_23", 1, 4, "eMMC"}, {"P8_25", 1, 0, "eMMC"}, {"P8_26", 1, 29, ""}, {"P8_27", 2, 22, "HDMI"}, {"P8_28", 2, 24, "HDMI"},
		{"P8_29", 2, 23, "HDMI"}, {"P8_30", 2, 25, "HDMI"}, {"P8_31", 0, 10, "HDMI"}, {"P8_32", 0, 11, "HDMI"}, {"P8_33", 0, 9, "HDMI"},
		{"P8_34", 2, 17, "HDMI"}, {"P8_35", 0, 8, "HDMI"}, {"P8_36", 2, 16, "HDMI"}, {"P8_37", 2, 14, "HDMI"}, {"P8_38", 2, 15, "HDMI"},
		{"P8_39", 2, 12, "HDMI"}, {"P8_40", 2, 13, "HDMI"}, {"P8_41", 2, 10, "HDMI"}, {"P8_42", 2, 11, "HDMI"}, {"P8_43", 2, 8, "HDMI"},
		{"P8_44", 2, 9, "HDMI"}, {"P8_45", 2, 6, "HDMI"}, {"P8_46", 2, 7, "HDMI"}, {"P9_11", 0, 30, ""}, {"P9_12", 1, 28, ""},
		{"P9_13", 0, 31, ""}, {"P9_14", 1, 18, ""}, {"P9_15A", 1, 16, ""}, {"P9_15B", 2, 0, ""}, {"P9_16", 1, 19, ""},
		{"P9_17", 0, 5, ""}, {"P9_18", 0, 4, ""}, {"P9_19", 0, 13, "I2C2"}, {"P9_20", 0, 12, "I2C2"}, {"P9_21", 0, 3, ""},
		{"P9_22", 0, 2, ""}, {"P9_23", 1, 17, ""}, {"P9_24", 0, 15, ""}, {"P9_25", 3, 21, ""}, {"P9_26", 0, 14, ""},
		{"P9_27", 3, 19, ""}, {"P9_28", 3, 17, ""}, {"P9_29", 3, 15, ""}, {"P9_30", 3, 16, ""}, {"P9_31", 3, 14, ""},
		{"P9_41A", 3, 20, ""}, {"P9_41B", 0, 20, ""}, {"P9_42A", 0, 7, ""}, {"P9_42B", 3, 18, ""},
	} {
		if p.use == "HDMI" && !hdmi {
			p.use = ""
		}
		pins = append(pins, Pin{Header: p.header, Line: fmt.Sprintf("GPIO%d_%d", p.bank, p.offset), Node: node[p.bank], Offset: p.offset, Use: p.use})
	}
	return pins
}

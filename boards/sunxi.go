// SPDX-License-Identifier: Apache-2.0

package boards

import (
	"fmt"
	"strconv"
	"time"
)

const (
	sunxiSources = "device trees arch/arm/boot/dts/allwinner and arch/arm64/boot/dts/allwinner of Linux 6.12 (compatible, nodes, pins of I2C); " +
		"drivers/pinctrl/sunxi/pinctrl-sunxi.c (labels, offsets); drivers/watchdog/sunxi_wdt.c"
	armbian    = "add the overlay to overlays= in /boot/armbianEnv.txt (armbian-config: System, Hardware) and restart the board: "
	armbianW1  = armbian + "w1-gpio, with param_w1_pin= the line"
	unknownBus = "enable the bus of the header by a device-tree overlay (armbian-config: System, Hardware); i2cdetect -l lists what there is"
)

func orangePis() []Board {
	zero := sunxi("orangepi-zero", "Orange Pi Zero", "arm", "xunlong,orangepi-zero")
	zero.GOARM, zero.Pins = "7", sunxiPins("1c20800.pinctrl", "", zeroHeader())
	zero.I2C.Nodes, zero.EnableI2C = []string{"i2c@1c2ac00"}, armbian+"i2c0"
	zero.SPI, zero.EnableSPI = "/dev/spidev1.0", armbian+"spi-spidev, with param_spidev_spi_bus=1"
	zero.Checked += "; header: OPi.GPIO orangepi/zeroplus.py, the same as the table of linux-sunxi.org"

	zero3 := sunxi("orangepi-zero3", "Orange Pi Zero 2, Zero 3", "arm64", "xunlong,orangepi-zero3", "xunlong,orangepi-zero2")
	zero3.Pins = sunxiPins("300b000.pinctrl", "", zero3Header())
	zero3.I2C.Nodes, zero3.EnableI2C = []string{"i2c@5002c00"}, "enable I2C bus 3 (PH4, PH5) by an overlay (armbian-config or orangepi-config) and restart the board"
	zero3.Reserved = pmic("the chip that makes the board's supply voltages (AXP305, AXP313A)")
	zero3.Checked += "; header: OPi.GPIO orangepi/zero2.py, zero3.py"

	three := sunxi("orangepi-3", "Orange Pi 3", "arm64", "xunlong,orangepi-3")
	three.Pins = sunxiPins("300b000.pinctrl", "7022000.pinctrl", threeHeader())
	three.I2C.Nodes, three.EnableI2C = []string{"i2c@5002000"}, "enable I2C bus 0 (PD25, PD26) by an overlay (armbian-config) and restart the board"
	three.Reserved = pmic("the chip that makes the board's supply voltages (AXP805)")
	three.Checked += "; header: OPi.GPIO orangepi/pi3.py"

	five := rockchip("orangepi-5", "Orange Pi 5", "xunlong,orangepi-5")
	five.I2C.Nodes, five.EnableI2C = []string{"i2c@fead0000"}, armbian+"i2c5-m3 (orangepi-config writes /boot/orangepiEnv.txt instead)"
	five.Header, five.Pins = header26, rockchipPins([]position{
		{3, "GPIO1_B7"}, {5, "GPIO1_B6"}, {7, "GPIO1_C6"}, {8, "GPIO4_A3"}, {10, "GPIO4_A4"}, {11, "GPIO4_B2"}, {12, "GPIO0_D5"}, {13, "GPIO4_B3"},
		{15, "GPIO0_D4"}, {16, "GPIO1_D3"}, {18, "GPIO1_D2"}, {19, "GPIO1_C1"}, {21, "GPIO1_C0"}, {22, "GPIO2_D4"}, {23, "GPIO1_C2"}, {24, "GPIO1_C4"},
		{26, "GPIO1_A3"},
	})
	five.Reserved = rk3588Supplies()
	five.Checked += "; header: OPi.GPIO orangepi/pi5.py"
	return []Board{zero, zero3, three, five}
}

// nanoPis have no table of pins: no two sources for it were compared.
func nanoPis() []Board {
	neo := sunxi("nanopi-neo", "NanoPi NEO, NEO Air", "arm", "friendlyarm,nanopi-neo", "friendlyarm,nanopi-neo-air")
	neo.GOARM, neo.Header = "7", ""
	neo.I2C.Nodes, neo.EnableI2C = []string{"i2c@1c2ac00"}, armbian+"i2c0"
	r4s := rockchip("nanopi-r4s", "NanoPi R4S", "friendlyarm,nanopi-r4s", "friendlyarm,nanopi-r4s-enterprise")
	r4s.EnableI2C = unknownBus
	r4s.Reserved = append(rk3399Supplies(), Reserved{Bus{Number: 2, Nodes: []string{"i2c@ff120000"}}, 0x51, 0x51, "the EEPROM with the board's MAC address"})
	return []Board{neo, r4s}
}

const header26 = "P1-n: pin n of the 26-pin header"

func sunxi(id, name, arch string, compatible ...string) Board {
	return Board{
		ID: id, Name: name, Compatible: compatible, GOARCH: arch, Header: header26, I2C: Bus{Number: -1},
		OneWire:  OneWire{Enable: armbianW1},
		Watchdog: Watchdog{Device: "/dev/watchdog", Driver: "sunxi_wdt", Longest: 16 * time.Second},
		Checked:  sunxiSources,
	}
}

// pmic is on the bus r_i2c, whose number differs from image to image.
func pmic(why string) []Reserved {
	return []Reserved{{Bus{Number: -1, Nodes: []string{"i2c@7081400"}}, 0x36, 0x36, why}}
}

// position is a header position and the name that the chip's maker gives to the line there.
type position struct {
	n    int
	line string
}

func (p position) header() string { return "P1-" + strconv.Itoa(p.n) }

// sunxiPins numbers a line as pinctrl-sunxi does: 32 for each bank from PA on; the banks from PL on are a chip of their own.
func sunxiPins(label, low string, header []position) []Pin {
	var pins []Pin
	for _, p := range header {
		var bank rune
		var n int
		pin := Pin{Header: p.header(), Line: p.line, Offset: -1} // stays so with a slip in the table, which a test looks for
		switch _, err := fmt.Sscanf(p.line, "P%c%d", &bank, &n); {
		case err == nil && bank < 'L':
			pin.Label, pin.Offset = label, int(bank-'A')*32+n
		case err == nil:
			pin.Label, pin.Offset = low, int(bank-'L')*32+n
		}
		pins = append(pins, pin)
	}
	return pins
}

func zeroHeader() []position {
	return []position{
		{3, "PA12"}, {5, "PA11"}, {7, "PA6"}, {8, "PG6"}, {10, "PG7"}, {11, "PA1"}, {12, "PA7"}, {13, "PA0"}, {15, "PA3"}, {16, "PA19"},
		{18, "PA18"}, {19, "PA15"}, {21, "PA16"}, {22, "PA2"}, {23, "PA14"}, {24, "PA13"}, {26, "PA10"},
	}
}

func zero3Header() []position {
	return []position{
		{3, "PH5"}, {5, "PH4"}, {7, "PC9"}, {8, "PH2"}, {10, "PH3"}, {11, "PC6"}, {12, "PC11"}, {13, "PC5"}, {15, "PC8"}, {16, "PC15"},
		{18, "PC14"}, {19, "PH7"}, {21, "PH8"}, {22, "PC7"}, {23, "PH6"}, {24, "PH9"}, {26, "PC10"},
	}
}

func threeHeader() []position {
	return []position{
		{3, "PD26"}, {5, "PD25"}, {7, "PD22"}, {8, "PL2"}, {10, "PL3"}, {11, "PD24"}, {12, "PD18"}, {13, "PD23"}, {15, "PL10"}, {16, "PD15"},
		{18, "PD16"}, {19, "PH5"}, {21, "PH6"}, {22, "PD21"}, {23, "PH4"}, {24, "PH3"}, {26, "PL8"},
	}
}

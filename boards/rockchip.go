// SPDX-License-Identifier: Apache-2.0

package boards

import "fmt"

const header40 = "P1-n: pin n of the 40-pin header"

// rocks: the Rock 3 has no table of pins, since the one that was found contradicts itself, and the 4SE and 4C+ have none, since the 4C+ is
// known to differ from the Rock 4.
func rocks() []Board {
	four := rockchip("rock-4", "Radxa Rock 4", "radxa,rockpi4")
	four.I2C = Bus{Number: 7, Nodes: []string{"i2c@ff160000"}}
	four.EnableI2C = "enable I2C7 by an overlay (armbian-config, or rsetup of Radxa's images) and restart the board"
	four.SPI, four.EnableSPI = "/dev/spidev1.0", "enable SPI1 with spidev by an overlay and restart the board"
	four.Reserved = rk3399Supplies()
	four.Checked += "; header: eclipse/mraa src/arm/rockpi4.c, its I2C7 and SPI1 lines the same as rk3399-base.dtsi"
	four.Header, four.Pins = header40, rockchipPins([]position{
		{3, "GPIO2_A7"}, {5, "GPIO2_B0"}, {7, "GPIO2_B3"}, {8, "GPIO4_C4"}, {10, "GPIO4_C3"}, {11, "GPIO4_C2"}, {12, "GPIO4_A3"}, {13, "GPIO4_C6"},
		{15, "GPIO4_C5"}, {16, "GPIO4_D2"}, {18, "GPIO4_D4"}, {19, "GPIO1_B0"}, {21, "GPIO1_A7"}, {22, "GPIO4_D5"}, {23, "GPIO1_B1"}, {24, "GPIO1_B2"},
		{27, "GPIO2_A0"}, {28, "GPIO2_A1"}, {29, "GPIO2_B2"}, {31, "GPIO2_B1"}, {32, "GPIO3_C0"}, {33, "GPIO2_B4"}, {35, "GPIO4_A5"}, {36, "GPIO4_A4"},
		{37, "GPIO4_D6"}, {38, "GPIO4_A6"}, {40, "GPIO4_A7"},
	})
	fourSE := rockchip("rock-4se", "Radxa Rock 4SE, 4C+", "radxa,rock-4se", "radxa,rock-4c-plus")
	fourSE.EnableI2C = unknownBus
	fourSE.Reserved = append(rk3399Supplies(), Reserved{four.Reserved[0].Bus, 0x20, 0x20, "the chip that makes the board's supply voltages (RK809)"})
	three := rockchip("rock-3", "Radxa Rock 3", "radxa,rock3a", "radxa,rock-3b", "radxa,rock-3c")
	three.EnableI2C = unknownBus
	three.Reserved = []Reserved{
		{Bus{Number: 0, Nodes: []string{"i2c@fdd40000"}}, 0x1c, 0x1c, "the chip that makes the processor's supply voltage (TCS4525)"},
		{Bus{Number: 0, Nodes: []string{"i2c@fdd40000"}}, 0x20, 0x20, "the chip that makes the board's supply voltages (RK809)"},
		{Bus{Number: 0, Nodes: []string{"i2c@fdd40000"}}, 0x50, 0x50, "the board's own EEPROM"},
	}
	five := rockchip("rock-5", "Radxa Rock 5", "radxa,rock-5b")
	five.EnableI2C = unknownBus
	five.Reserved = rk3588Supplies()
	five.Checked += "; header: eclipse/mraa src/arm/radxa_rock_5b.c, the lines whose name and number agree there"
	five.Header, five.Pins = header40, rockchipPins([]position{
		{3, "GPIO4_B3"}, {5, "GPIO4_B2"}, {7, "GPIO3_C3"}, {11, "GPIO3_C1"}, {12, "GPIO3_B5"}, {13, "GPIO3_B7"}, {16, "GPIO3_A4"}, {18, "GPIO4_C4"},
		{19, "GPIO1_B2"}, {21, "GPIO1_B1"}, {23, "GPIO1_B3"}, {24, "GPIO1_B4"}, {26, "GPIO1_B5"}, {27, "GPIO4_C6"}, {28, "GPIO4_C5"}, {29, "GPIO1_D7"},
		{31, "GPIO1_B7"}, {32, "GPIO3_C2"}, {33, "GPIO3_A7"}, {35, "GPIO3_B6"}, {36, "GPIO3_B1"}, {38, "GPIO3_B2"}, {40, "GPIO3_B3"},
	})
	return []Board{three, four, fourSE, five}
}

func rockchip(id, name string, compatible ...string) Board {
	return Board{
		ID: id, Name: name, Compatible: compatible, GOARCH: "arm64", I2C: Bus{Number: -1},
		OneWire:  OneWire{Enable: armbianW1},
		Watchdog: Watchdog{Device: "/dev/watchdog", Driver: "dw_wdt"}, // the longest time depends on the clock
		Checked: "device trees arch/arm64/boot/dts/rockchip of Linux 6.12 (compatible, nodes, chips for supply); " +
			"drivers/gpio/gpio-rockchip.c (labels, 32 lines each: A0 to D7)",
	}
}

func rk3399Supplies() []Reserved {
	i2c0 := Bus{Number: 0, Nodes: []string{"i2c@ff3c0000"}}
	return []Reserved{
		{i2c0, 0x1b, 0x1b, "the chip that makes the board's supply voltages (RK808)"},
		{i2c0, 0x40, 0x41, "the chips that make the processor's supply voltages (SYR827, SYR828)"},
	}
}

func rk3588Supplies() []Reserved {
	why := "a chip that makes the processor's supply voltages (RK8602, RK8603)"
	return []Reserved{
		{Bus{Number: 0, Nodes: []string{"i2c@fd880000"}}, 0x42, 0x43, why},
		{Bus{Number: 2, Nodes: []string{"i2c@feaa0000"}}, 0x42, 0x42, why},
	}
}

// rockchipPins finds chip and offset in the maker's name: GPIO4_B3 is line 11 of gpio4.
func rockchipPins(header []position) []Pin {
	var pins []Pin
	for _, p := range header {
		var chip, n int
		var group rune
		pin := Pin{Header: p.header(), Line: p.line, Offset: -1} // stays so with a slip in the table, which a test looks for
		if _, err := fmt.Sscanf(p.line, "GPIO%d_%c%d", &chip, &group, &n); err == nil {
			pin.Label, pin.Offset = fmt.Sprintf("gpio%d", chip), int(group-'A')*8+n
		}
		pins = append(pins, pin)
	}
	return pins
}

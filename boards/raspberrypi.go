// SPDX-License-Identifier: Apache-2.0

package boards

import (
	"fmt"
	"time"
)

const (
	piSources = "device trees arch/arm/boot/dts/broadcom/bcm28*-rpi-*.dts, bcm2711-rpi-*.dts of Linux 6.12 and bcm2708*/bcm2712*-rpi-*.dts of " +
		"raspberrypi/linux (compatible, nodes, lines); drivers/pinctrl/bcm/pinctrl-bcm2835.c, drivers/pinctrl/pinctrl-rp1.c (labels); " +
		"drivers/watchdog/bcm2835_wdt.c; raspberrypi/linux arch/arm/boot/dts/overlays/README; raspberrypi/documentation revision-codes.adoc; " +
		"header: reduced schematics of the Zero W and periph host/rpi"
	piI2C = "add dtparam=i2c_arm=on to config.txt (raspi-config: Interface Options, I2C) and restart the board"
	piSPI = "add dtparam=spi=on to config.txt (raspi-config: Interface Options, SPI) and restart the board"
)

// raspberryPis: the boards differ in chip, header and in what the first ones did otherwise. The first Model B (rev 1.0) has bus 0 on the
// header, and GPIO0, 1 and 21 where all later ones have 2, 3 and 27. Its compatible string is also that of rev 2, so that the revision
// code decides.
func raspberryPis() []Board {
	const old, bcm2711, rp1 = "pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"
	rev1 := pi("rpi-1-rev1", "Raspberry Pi 1 Model B rev 1", "arm", "6", rev1Header(old), "raspberrypi,model-b")
	rev1.Revisions = []uint32{0x2, 0x3}
	rev1.I2C = Bus{Number: 0, Nodes: []string{"i2c@7e205000"}}
	rev1.Reserved = nil // no header pins for the EEPROM of a HAT
	rev2 := pi("rpi-1", "Raspberry Pi 1 Model A, B", "arm", "6", piHeader(old, 26), "raspberrypi,model-a", "raspberrypi,model-b", "raspberrypi,model-b-rev2")
	rev2.Reserved = nil
	five := pi("rpi-5", "Raspberry Pi 5, 500, CM5", "arm64", "", piHeader(rp1, 40), "raspberrypi,5-model-b", "raspberrypi,500",
		"brcm,bcm2712") // the CM5 by its processor
	five.I2C.Nodes = []string{"i2c@74000"}
	return []Board{
		rev1, rev2,
		pi("rpi-1-plus", "Raspberry Pi Zero, Zero W, 1 A+, B+, CM1", "arm", "6", piHeader(old, 40), "raspberrypi,model-zero", "raspberrypi,model-zero-w",
			"raspberrypi,model-a-plus", "raspberrypi,model-b-plus", "raspberrypi,compute-module", "brcm,bcm2835"),
		pi("rpi-2", "Raspberry Pi 2", "arm", "7", piHeader(old, 40), "raspberrypi,2-model-b", "brcm,bcm2836"),
		pi("rpi-zero-2", "Raspberry Pi Zero 2 W", "arm64", "", piHeader(old, 40), "raspberrypi,model-zero-2-w"),
		pi("rpi-3", "Raspberry Pi 3, 3+, CM3", "arm64", "", piHeader(old, 40), "raspberrypi,3-model-b", "raspberrypi,3-model-b-plus",
			"raspberrypi,3-model-a-plus", "raspberrypi,3-compute-module", "brcm,bcm2837"),
		pi("rpi-4", "Raspberry Pi 4, 400, CM4", "arm64", "", piHeader(bcm2711, 40), "raspberrypi,4-model-b", "raspberrypi,400",
			"raspberrypi,4-compute-module", "brcm,bcm2711"),
		five,
	}
}

func pi(id, name, arch, arm string, pins []Pin, compatible ...string) Board {
	return Board{
		ID: id, Name: name, Compatible: compatible, GOARCH: arch, GOARM: arm, Header: "P1-n: pin n of the GPIO header", Pins: pins,
		I2C: Bus{Number: 1, Nodes: []string{"i2c@7e804000"}}, EnableI2C: piI2C,
		SPI: "/dev/spidev0.0", EnableSPI: piSPI,
		OneWire:  OneWire{Line: "GPIO4", Enable: "add dtoverlay=w1-gpio to config.txt (option gpiopin for another line) and restart the board"},
		Watchdog: Watchdog{Device: "/dev/watchdog", Driver: "bcm2835_wdt", Longest: 15 * time.Second},
		Reserved: []Reserved{{Bus{Number: 0}, 0x50, 0x50, "the ID EEPROM of a HAT"}},
		Checked:  piSources,
	}
}

// piHeader has one line for each GPIO; GPIO0 and 1 are kept for the ID EEPROM of a HAT.
func piHeader(label string, length int) []Pin {
	var pins []Pin
	for _, p := range [...]struct{ position, gpio int }{
		{3, 2}, {5, 3}, {7, 4}, {8, 14}, {10, 15}, {11, 17}, {12, 18}, {13, 27}, {15, 22}, {16, 23}, {18, 24}, {19, 10}, {21, 9}, {22, 25},
		{23, 11}, {24, 8}, {26, 7}, {27, 0}, {28, 1}, {29, 5}, {31, 6}, {32, 12}, {33, 13}, {35, 19}, {36, 16}, {37, 26}, {38, 20}, {40, 21},
	} {
		if p.position > length {
			break
		}
		pin := piPin(label, p.position, p.gpio)
		if p.gpio < 2 {
			pin.Use = "ID EEPROM"
		}
		pins = append(pins, pin)
	}
	return pins
}

func rev1Header(label string) []Pin {
	pins := piHeader(label, 26)
	for i, p := range pins {
		switch p.Header {
		case "P1-3":
			pins[i] = piPin(label, 3, 0)
		case "P1-5":
			pins[i] = piPin(label, 5, 1)
		case "P1-13":
			pins[i] = piPin(label, 13, 21)
		}
	}
	return pins
}

func piPin(label string, position, gpio int) Pin {
	return Pin{Header: fmt.Sprintf("P1-%d", position), Line: fmt.Sprintf("GPIO%d", gpio), Label: label, Offset: gpio}
}

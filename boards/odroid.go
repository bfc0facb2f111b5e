// SPDX-License-Identifier: Apache-2.0

package boards

import (
	"fmt"
	"time"
)

// odroids: the kernel names the lines by their position, PIN_7. Two thirds of the header are the same on both.
func odroids() []Board {
	common := map[int]int{3: 82, 5: 83, 8: 77, 10: 78, 11: 68, 12: 81, 13: 69, 15: 72, 16: 65, 18: 66, 19: 73, 21: 74, 22: 67, 23: 76, 24: 75,
		27: 63, 28: 64, 29: 79, 31: 80}
	return []Board{
		odroid("odroid-c4", "Odroid C4", common, map[int]int{7: 70, 26: 22, 32: 23, 33: 71, 35: 84, 36: 21}, "hardkernel,odroid-c4"),
		odroid("odroid-n2", "Odroid N2, N2+, N2L", common, map[int]int{7: 62, 26: 53, 32: 61, 33: 70, 35: 71, 36: 84},
			"hardkernel,odroid-n2", "hardkernel,odroid-n2-plus", "hardkernel,odroid-n2l"),
	}
}

func odroid(id, name string, common, own map[int]int, compatible ...string) Board {
	b := Board{
		ID: id, Name: name, Compatible: compatible, GOARCH: "arm64", Header: header40,
		I2C:       Bus{Number: -1, Nodes: []string{"i2c@1d000"}},
		EnableI2C: "enable the controller of pins 3 and 5 (i2c@1d000 in the device tree) by an overlay and restart the board",
		Watchdog:  Watchdog{Device: "/dev/watchdog", Driver: "meson_gxbb_wdt", Longest: 65535 * time.Millisecond},
		Checked: "device trees arch/arm64/boot/dts/amlogic/meson-sm1-odroid-c4.dts, meson-g12b-odroid-n2.dts of Linux 6.12 (compatible, lines, I2C pins); " +
			"drivers/pinctrl/meson/pinctrl-meson-g12a.c (label); drivers/watchdog/meson_gxbb_wdt.c",
	}
	for n := 1; n <= 40; n++ {
		offset, ok := common[n]
		if !ok {
			offset, ok = own[n]
		}
		if ok {
			b.Pins = append(b.Pins, Pin{Header: fmt.Sprintf("P1-%d", n), Line: fmt.Sprintf("PIN_%d", n), Label: "periphs-banks", Offset: offset})
		}
	}
	return b
}

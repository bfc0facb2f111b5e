// SPDX-License-Identifier: Apache-2.0

package boards

// pc is a PC without pins: chips are connected through USB adapters. Its own buses hold the EEPROMs of the memory modules; a write there
// can make the PC unable to start.
func pc() Board {
	smbus := Bus{Number: -1, Name: "SMBus"}
	return Board{
		ID: "pc", Name: "PC", GOARCH: "amd64", I2C: Bus{Number: -1},
		EnableI2C: "plug in a USB adapter that the kernel has a driver for (i2c-tiny-usb, CH341, CP2112, MCP2221) and load i2c-dev; i2cdetect -l lists what there is",
		Watchdog:  Watchdog{Device: "/dev/watchdog"},
		Reserved: []Reserved{
			{smbus, 0x30, 0x37, "write protection and page selection of the memory modules' EEPROMs"},
			{smbus, 0x50, 0x57, "the memory modules' EEPROMs"},
		},
		Checked: "drivers/i2c/i2c-smbus.c (i2c_register_spd), drivers/misc/eeprom/ee1004.c; names of adapters: drivers/i2c/busses/i2c-i801.c, i2c-piix4.c",
	}
}

// SPDX-License-Identifier: Apache-2.0

package ds18b20

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sysfs"
)

// parse reads w1_slave:
//
//	72 01 4b 46 7f ff 0e 10 57 : crc=57 YES
//	72 01 4b 46 7f ff 0e 10 57 t=23125
//
// Newer kernels (from 5.8) give an empty file when the chip does not answer or the checksum is wrong. A scratchpad of zeros has the right
// checksum and is a line that is held low. Byte 6 is 0c in a chip that was powered up and has not converted since: it then shows 85 °C, or
// 127.9 °C if the supply broke down (w1_therm.c, convert_t). A DS18S20 that measured 85 °C looks the same and is refused too.
func parse(text string) (physic.Temperature, error) {
	if text == "" {
		return 0, fmt.Errorf("the chip did not answer or its checksum was wrong: %w", sensors.ErrNoData)
	}
	first, second, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\n")
	bytes, verdict, _ := strings.Cut(first, " : ")
	pad, err := hex.DecodeString(strings.ReplaceAll(bytes, " ", ""))
	if err != nil || bytes != fmt.Sprintf("% x", pad) || len(pad) != 9 {
		return 0, fmt.Errorf("%.60q: %w", first, sysfs.ErrFormat)
	}
	switch {
	case strings.Trim(bytes, "0 ") == "", strings.Trim(bytes, "f ") == "":
		return 0, fmt.Errorf("%s: %w", bytes, sensors.ErrNoData)
	case strings.HasSuffix(verdict, " NO"):
		return 0, fmt.Errorf("%s: %w", first, sensors.ErrCRC)
	case verdict != fmt.Sprintf("crc=%02x YES", pad[8]):
		return 0, fmt.Errorf("%.60q: %w", first, sysfs.ErrFormat)
	}
	if value := bytes[:5]; pad[6] == 0x0c && (value == "50 05" || value == "ff 07" || value == "aa 00") {
		return 0, fmt.Errorf("%s: the chip has not converted since it was powered up: %w", bytes, sensors.ErrNoData)
	}
	t, same := strings.CutPrefix(second, bytes+" t=")
	milli, err := strconv.ParseInt(t, 10, 32)
	switch {
	case !same || err != nil || t != strconv.FormatInt(milli, 10):
		return 0, fmt.Errorf("%.60q: %w", second, sysfs.ErrFormat)
	case milli < -55_000 || milli > 125_000:
		return 0, fmt.Errorf("%d m°C: %w", milli, sensors.ErrRange)
	}
	return physic.Temperature(milli)*physic.MilliKelvin + physic.ZeroCelsius, nil
}

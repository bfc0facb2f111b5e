// SPDX-License-Identifier: Apache-2.0

package sensors_test

import (
	"fmt"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge/sensors"
)

func ExampleCelsius() {
	s := sensors.Celsius(physic.ZeroCelsius + 21_500*physic.MilliKelvin)
	fmt.Println(s.Name, s.Value, s.Unit)
	// Output: temperature 21.5 Cel
}

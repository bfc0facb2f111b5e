// SPDX-License-Identifier: Apache-2.0

package sensors

import (
	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
)

// The quantities that drivers measure, with their SenML primary units. A driver takes one from here and never
// writes a unit itself.
var (
	Temperature = edge.Quantity{Name: "temperature", Unit: "Cel"}
	Humidity    = edge.Quantity{Name: "humidity", Unit: "%RH"} // relative humidity
	Pressure    = edge.Quantity{Name: "pressure", Unit: "Pa"}  // absolute, not reduced to sea level
	Voltage     = edge.Quantity{Name: "voltage", Unit: "V"}
	Current     = edge.Quantity{Name: "current", Unit: "A"}
	Power       = edge.Quantity{Name: "power", Unit: "W"}
	Illuminance = edge.Quantity{Name: "illuminance", Unit: "lx"}
	CO2         = edge.Quantity{Name: "co2", Unit: "/"} // volume fraction: 400 ppm is 0.0004
	Gas         = edge.Quantity{Name: "concentration", Unit: "/"}
	Particles   = edge.Quantity{Name: "particles", Unit: "kg/m3"} // mass of dust in the air
	Resistance  = edge.Quantity{Name: "resistance", Unit: "Ohm"}
	Conducting  = edge.Quantity{Name: "conductivity", Unit: "S/m"}
	Acidity     = edge.Quantity{Name: "ph", Unit: "pH"}
	Distance    = edge.Quantity{Name: "distance", Unit: "m"}
	FanSpeed    = edge.Quantity{Name: "fan", Unit: "1/min"}
	Load        = edge.Quantity{Name: "load", Unit: "/"}         // processes that run or wait to, mean of a minute
	MemoryFree  = edge.Quantity{Name: "memory-free", Unit: "B"}  // what programs can still get (MemAvailable)
	MemoryTotal = edge.Quantity{Name: "memory-total", Unit: "B"} //
	DiskFree    = edge.Quantity{Name: "disk-free", Unit: "B"}    // what users other than root can still write
	Uptime      = edge.Quantity{Name: "uptime", Unit: "s"}       // since the machine booted
	Count       = edge.Quantity{Name: "count", Unit: "count", Kind: edge.Counter}
	EnergyUsed  = edge.Quantity{Name: "energy", Unit: "J", Kind: edge.Counter}
	VolumeUsed  = edge.Quantity{Name: "volume", Unit: "m3", Kind: edge.Counter}
	Rain        = edge.Quantity{Name: "rain", Unit: "m", Kind: edge.Counter} // depth of water
	Contact     = edge.Quantity{Name: "contact", Kind: edge.State}
	Motion      = edge.Quantity{Name: "motion", Kind: edge.State}
	Leak        = edge.Quantity{Name: "leak", Kind: edge.State}
	SwitchOn    = edge.Quantity{Name: "switch", Kind: edge.State}
)

// This file is the only place where integers in periph's units become samples: physic counts in 10⁻⁹ of a unit, except
// RelativeHumidity, an int32 of 10⁻⁵ %, in which products overflow: compute in int64 and convert last.

// Celsius makes a sample of a temperature. The 273.15 K are subtracted as integers, so that no digit is lost.
func Celsius(t physic.Temperature) edge.Sample { return nano(Temperature, int64(t-physic.ZeroCelsius)) }

// RelativeHumidity makes a sample of a relative humidity in %.
func RelativeHumidity(h physic.RelativeHumidity) edge.Sample {
	return Of(Humidity, float64(h)/float64(physic.PercentRH))
}

// Pascals makes a sample of a pressure.
func Pascals(p physic.Pressure) edge.Sample { return nano(Pressure, int64(p)) }

// Volts makes a sample of a voltage.
func Volts(v physic.ElectricPotential) edge.Sample { return nano(Voltage, int64(v)) }

// Amperes makes a sample of a current.
func Amperes(a physic.ElectricCurrent) edge.Sample { return nano(Current, int64(a)) }

// Watts makes a sample of a power.
func Watts(w physic.Power) edge.Sample { return nano(Power, int64(w)) }

// MilliLux is an illuminance in 10⁻³ lx, which periph lacks.
type MilliLux int32

// Lux makes a sample of an illuminance.
func Lux(l MilliLux) edge.Sample { return Of(Illuminance, float64(l)/1000) }

// PPM is a volume fraction in 10⁻⁶, which periph lacks.
type PPM int32

// CarbonDioxide makes a sample of a concentration of CO₂, as a ratio.
func CarbonDioxide(c PPM) edge.Sample { return Of(CO2, float64(c)/1e6) }

// Of makes a sample of a value that is already in the quantity's unit, for example a number of bytes.
func Of(q edge.Quantity, value float64) edge.Sample { return edge.Sample{Quantity: q, Value: value} }

// On makes a sample of a quantity of kind State.
func On(q edge.Quantity, on bool) edge.Sample {
	if on {
		return Of(q, 1)
	}
	return Of(q, 0)
}

func nano(q edge.Quantity, n int64) edge.Sample { return Of(q, float64(n)/1e9) }

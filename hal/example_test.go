// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge/hal"
)

func ExampleOpen() {
	board, err := hal.Open(context.Background(), hal.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer board.Close()
	for _, problem := range board.Problems() { // these stop nobody who does not need the bus
		_ = problem
	}
	_, err = board.Port(hal.Request{Kind: hal.I2C, Bus: "the-roof", Addr: 0x76})
	fmt.Println(errors.Is(err, hal.ErrNoBus))
	// Output: true
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// ParseTOML reads a config file's text into v, a pointer to a struct with toml tags, and leaves what the text does not
// name as it is. An unknown key, a syntax error or a wrong type is an error that shows the line with a caret below.
func ParseTOML(data []byte, v any) error {
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(v)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		return errors.New(strict.String() + "\nunknown key: check its spelling against docs/operations.md")
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := decode.Position()
		return fmt.Errorf("%s\nline %d, column %d: %w", decode.String(), row, column, decode)
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package command

import "io/fs"

// Through has all writes of the file and its trial pass a function, for cuts between them.
func (f *ConfigFile) Through(write func(path string, text []byte, mode fs.FileMode) error) {
	f.write = write
}

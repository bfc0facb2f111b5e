// SPDX-License-Identifier: Apache-2.0

package ds18b20

// Parse is for the tests of this package.
var Parse = parse

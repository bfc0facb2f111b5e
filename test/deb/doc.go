// SPDX-License-Identifier: Apache-2.0

// Package deb has the tests of the Debian packages: installed, upgraded, removed and purged in a root file system of Debian's own, and deployed to a machine
// over ssh. They run as root on a Debian machine with mmdebstrap, and say why where they do not.
package deb

// SPDX-License-Identifier: Apache-2.0

package outbox

// Known counts the chains that the outbox keeps in memory.
func (b *Outbox) Known() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(len(b.chains), len(b.ring))
}

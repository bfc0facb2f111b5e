// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"sync"

	"github.com/streembit/edge"
)

// Hubs remembers how each hub answered last and logs when that changes. Safe for concurrent use.
type Hubs struct {
	logger *slog.Logger

	mu     sync.Mutex
	errors map[edge.ID]string // "" while the hub takes segments
}

// NewHubs returns an empty memory.
func NewHubs(l *slog.Logger) *Hubs { return &Hubs{logger: l, errors: map[edge.ID]string{}} }

// Answered notes a hub's answer to a segment, nil for an ack.
func (h *Hubs) Answered(hub edge.ID, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	h.mu.Lock()
	before := h.errors[hub]
	h.errors[hub] = text
	h.mu.Unlock()
	switch {
	case before == "" && err != nil:
		h.logger.Warn("hub takes no segments", "hub", hub, "err", err)
	case before != "" && err == nil:
		h.logger.Info("hub takes segments again", "hub", hub)
	}
}

// failing returns the hubs that did not take the last segment, and why.
func (h *Hubs) failing() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]string{}
	for id, text := range h.errors {
		if text != "" {
			out[id.String()] = text
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

// Hubs remembers how each hub answered last and logs when that changes. Safe for concurrent use.
type Hubs struct {
	logger *slog.Logger

	mu     sync.Mutex
	errors map[edge.ID]string // "" while the hub takes segments
	logged map[edge.ID]bool   // it is said that it takes none
}

// NewHubs returns an empty memory.
func NewHubs(l *slog.Logger) *Hubs {
	return &Hubs{logger: l, errors: map[edge.ID]string{}, logged: map[edge.ID]bool{}}
}

// Answered notes a hub's answer to a segment, nil for an ack. That it has no room in its queue or none for this device just now, as happens when a long
// backlog drains, is shown and not logged; that it let a segment go says nothing of the next one.
func (h *Hubs) Answered(hub edge.ID, err error) {
	refused, _ := errors.AsType[*transport.Refusal](err)
	if refused != nil && refused.Reason == transport.RefusedPast {
		return
	}
	soon := passing(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	h.mu.Lock()
	logged := h.logged[hub]
	h.errors[hub] = text
	if !soon {
		h.logged[hub] = err != nil
	}
	h.mu.Unlock()
	switch {
	case soon:
	case !logged && err != nil:
		h.logger.Warn("hub takes no segments", "hub", hub, "err", err)
	case logged && err == nil:
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

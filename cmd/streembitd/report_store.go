// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/store"
)

func storeStatusOf(disk *store.Store, f *fleet.Fleet) *storeStatus {
	st := disk.Stats()
	s := &storeStatus{Chains: st.Chains, Segments: st.Segments, Revoked: st.Revoked, Bytes: st.Bytes, Quota: st.Quota, Puts: st.Puts,
		Refused: map[string]uint64{}, Forks: st.Forks, Damaged: st.Damaged, Skipped: st.Skipped, MeanSync: st.MeanSync,
		LetGo: map[string]uint64{}, Oldest: dateOf(st.Oldest), Undated: st.Undated, Freed: st.Freed, Moved: st.Moved}
	for reason, n := range st.Refused {
		s.Refused[reason.String()] = n
	}
	for why, n := range st.LetGo {
		s.LetGo[why.String()] = n
	}
	for _, w := range disk.Waits() {
		g, _ := f.Member(w.Collector)
		s.Waits = append(s.Waits, waitStatus{Collector: w.Collector.String(), Name: g.Name, Chains: w.Chains, Segments: w.Segments, Oldest: dateOf(w.Oldest)})
	}
	return s
}

// dateOf returns a time of ms since 1970; 0 = not known.
func dateOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// retention says how long what is held has been, and what was let go; "" = nothing of either is known.
func (s *storeStatus) retention() string {
	var words []string
	if !s.Oldest.IsZero() {
		words = append(words, "the oldest segment was received "+receivedText(s.Oldest))
	}
	if s.Undated > 0 {
		words = append(words, fmt.Sprintf("%d received while the time was not known: they age from when it is", s.Undated))
	}
	gone := make([]string, 0, len(s.LetGo))
	for why, n := range s.LetGo {
		gone = append(gone, fmt.Sprintf("%d let go since start: %s", n, why))
	}
	slices.Sort(gone)
	return strings.Join(append(words, gone...), "; ")
}

func receivedText(t time.Time) string {
	if t.IsZero() {
		return "nobody knows when"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

// SPDX-License-Identifier: Apache-2.0

package direct

import "context"

// WatchAs is Watch with an id that a test can foresee.
func WatchAs(ctx context.Context, s *Session, id RequestID, tell func(Live)) (any, error) {
	return s.Do(ctx, Request{ID: id, Op: Watch, live: tell})
}

// SubscribeAs is Subscribe with an id that a test can foresee.
func SubscribeAs(ctx context.Context, s *Session, id RequestID, tell func(Occurrence)) (any, error) {
	return s.Do(ctx, Request{ID: id, Op: Subscribe, heard: tell})
}

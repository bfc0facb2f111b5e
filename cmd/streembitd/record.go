// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet/audit"
)

// auditFolder is the folder of the audit log in the state folder.
const auditFolder = "audit"

// Events of the audit log. Those that begin with "refused-" are what others tried.
const (
	evUnclaimed  = "unclaimed"   // began to wait for a fleet
	evClaimed    = "claimed"     // became a member
	evErased     = "erased"      // a secret of the enrolment is gone
	evNotErased  = "not-erased"  // … or could not be erased
	evReset      = "reset"       // left the fleet at a person's word
	evGrant      = "grant"       // somebody is a member, or is one otherwise than before
	evRevoke     = "revoke"      // somebody is no member any more
	evNewKey     = "new-key"     // this device has a new key, in the place of the one before
	evPolicy     = "policy"      // a claim token is known
	evState      = "state"       // a newer fleet state
	evClaim      = "claim"       // a claim waits
	evDropped    = "claim-drop"  // an operator dropped a claim
	evDeposit    = "approval"    // an operator left an approval
	evExecuted   = "token-grant" // this hub granted by a policy
	evAlarm      = "alarm"       // see status
	evBadOwner   = "refused-owner"
	evBadApprove = "refused-approval"
	evBadClaim   = "refused-claim"
	evBadPolicy  = "refused-policy"
	evBadBundle  = "refused-bundle"
)

// record is the audit log of a running program. What cannot be written down is logged and does not stop the work.
type record struct {
	log    *audit.Log
	logger *slog.Logger
}

// openRecord opens the audit log of a state folder. Since only one program can have it open, it also keeps two from running there.
func openRecord(state string, synced func() bool, logger *slog.Logger) (*record, error) {
	boot, _, _, err := agent.Boot("/")
	name := ""
	if err == nil {
		name = boot.String()
	}
	l, err := audit.Open(audit.Options{Dir: filepath.Join(state, auditFolder), Boot: name, Synced: synced})
	if errors.Is(err, audit.ErrLocked) {
		return nil, cli.Try(err, "stop the streembitd that runs with %s", cli.Quote(state))
	}
	if err != nil {
		return nil, err
	}
	return &record{log: l, logger: logger}, nil
}

// decided notes what this member did or took in.
func (r *record) decided(event, who, what, detail string) {
	r.failed(r.log.Add(audit.Event{Event: event, Who: who, What: what, Detail: detail}), event)
}

// refused notes what others tried.
func (r *record) refused(event, who, what string, why error) {
	r.failed(r.log.Refused(audit.Event{Event: event, Who: who, What: what, Detail: why.Error()}), event)
}

func (r *record) failed(err error, event string) {
	if err != nil {
		r.logger.Error("not written to the audit log", "event", event, "err", err)
	}
}

func (r *record) Close() error { return r.log.Close() }

package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/problem"
	"mpr/rules"
)

// PolicyRecord is a campaign as it was set at one time.
type PolicyRecord struct {
	Campaign rules.Campaign `json:"campaign"`
	// By is who set it, and Note why.
	By   string    `json:"by"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
	// Revision tells records apart; 0 where nobody has set anything yet.
	Revision uint64 `json:"revision"`
	// PlannedIn is the revision that set the dates and brownouts, where rehearsals alone have changed
	// since; nil: this one.
	PlannedIn *uint64 `json:"planned_in,omitempty"`
}

// Planned is the revision since which the dates and brownouts are as they are. Rehearsals come and go
// beside them, and apps' developers set them: they must not get in the way of whoever changes dates.
func (r *PolicyRecord) Planned() uint64 {
	if r.PlannedIn != nil && *r.PlannedIn < r.Revision {
		return *r.PlannedIn
	}
	return r.Revision
}

// Seen says whether somebody who looked at a revision has seen these dates and brownouts.
func (r *PolicyRecord) Seen(revision uint64) bool {
	return r.Planned() <= revision && revision <= r.Revision
}

// policyKey is the one key of the policy's bucket, and policyHistory how many of its
// records are kept.
const (
	policyKey     = "campaign"
	policyHistory = 64 // the most that NATS keeps
)

// Policy reads the campaign in force. Where nobody has set one, the record is empty.
func (d *Directory) Policy(ctx context.Context) (PolicyRecord, error) {
	entry, err := d.policy.Get(ctx, policyKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return PolicyRecord{}, nil
	}
	if err != nil {
		return PolicyRecord{}, Unavailable(err)
	}
	return readPolicy(entry)
}

// SetPolicy puts a campaign in force if the record in force has still the revision;
// otherwise it answers [problem.Conflict] and changes nothing. It answers the record with
// its new revision.
func (d *Directory) SetPolicy(ctx context.Context, r PolicyRecord, revision uint64) (PolicyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	r.Revision = 0 // NATS knows it
	value, err := json.Marshal(&r)
	if err != nil {
		return PolicyRecord{}, fmt.Errorf("set the policy: %w", err)
	}
	if revision == 0 {
		r.Revision, err = d.policy.Create(ctx, policyKey, value)
	} else {
		r.Revision, err = d.policy.Update(ctx, policyKey, value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		return PolicyRecord{}, problem.New(problem.Conflict, "Somebody else has changed the policy meanwhile. Look at it and repeat.")
	}
	return r, Unavailable(err)
}

// PolicyHistory lists the campaigns that were set, the newest first.
func (d *Directory) PolicyHistory(ctx context.Context) ([]PolicyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	entries, err := d.policy.History(ctx, policyKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, Unavailable(err)
	}
	records := make([]PolicyRecord, 0, len(entries))
	for i := len(entries) - 1; i >= 0; i-- {
		r, err := readPolicy(entries[i])
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func readPolicy(entry jetstream.KeyValueEntry) (PolicyRecord, error) {
	var r PolicyRecord
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return r, fmt.Errorf("read the policy: %w", err)
	}
	r.Revision = entry.Revision()
	return r, nil
}

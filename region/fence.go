package region

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// The states of a fence.
const (
	// owned: calls at the fence's epoch are served.
	owned = "owned"
	// frozen: nothing is served. The company is about to leave, or to stay after all.
	frozen = "frozen"
	// gone: the company left.
	gone = "gone"
)

// fence is the region's own durable note of a company. What gateways believe is a hint;
// the fence decides.
type fence struct {
	State   string        `json:"state"`
	Epoch   company.Epoch `json:"epoch"`
	Version int64         `json:"version"`
	// GoneRegion and GoneEpoch say where a company that left lives, as far as known.
	GoneRegion company.Region `json:"gone_region,omitempty"`
	GoneEpoch  company.Epoch  `json:"gone_epoch,omitempty"`
	// Purged says that the rows of a company that left are deleted, or about to be.
	Purged bool `json:"purged,omitempty"`
}

const fenceColumns = `state, epoch, version, gone_region, gone_epoch, purged`

func (f *fence) columns() []any {
	return []any{&f.State, &f.Epoch, &f.Version, &f.GoneRegion, &f.GoneEpoch, &f.Purged}
}

// readFence answers a company's fence; [notOwned] where the region has never heard of it.
func readFence(ctx context.Context, q querier, id company.ID) (*fence, error) {
	var f fence
	err := q.QueryRowContext(ctx, `SELECT `+fenceColumns+` FROM fence WHERE company_id = $1`, int64(id)).Scan(f.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, &notOwned{}
	}
	if err != nil {
		return nil, fmt.Errorf("read fence: %w", err)
	}
	return &f, nil
}

// anyEpoch is the epoch of the control role's writes: they are for whoever owns the
// company. Real epochs start at 1.
const anyEpoch company.Epoch = 0

// admits is nil where a call of that epoch may pass. Otherwise it is a [notOwned] with
// the newest placement that the region (of this code) knows.
func (f *fence) admits(code company.Region, epoch company.Epoch) error {
	if f.State == owned && (epoch == f.Epoch || epoch == anyEpoch) {
		return nil
	}
	refusal := f.placement(code)
	return &refusal
}

// placement is the newest one that the region (of this code) knows, as a refusal tells it.
func (f *fence) placement(code company.Region) notOwned {
	if f.State == gone {
		return notOwned{region: f.GoneRegion, epoch: f.GoneEpoch}
	}
	return notOwned{region: code, epoch: f.Epoch, frozen: f.State == frozen}
}

// notOwned is the fence's refusal: the region doesn't own the company at the call's
// epoch.
type notOwned struct {
	// region and epoch are the newest placement that the fence knows; the zero values
	// where it knows none.
	region company.Region
	epoch  company.Epoch
	frozen bool
}

func (n *notOwned) Error() string { return "the fence doesn't own the company at this epoch" }

// Headers between gateways and regions.
const (
	// EpochHeader stamps a call with the epoch of the placement that the gateway used.
	EpochHeader = "Mpr-Epoch"
	// MovingHeader says, on a 421, that the company is just changing over.
	MovingHeader = "Mpr-Moving"
	// RefusalHeader tells a gateway of a refusal that only the region can see.
	RefusalHeader = "Mpr-Refusal"
	// RegionHeader tells a gateway where a company lives, on a 421.
	RegionHeader = "Mpr-Region"
)

// changing says whether the company of a call that was refused is on its way here, or the fence
// has become another one since it refused: a gateway that asks again in a moment may be let in.
// The fence is read again after the arrival, since activating replaces the one by the other. Where
// that can't be told nothing changes.
func (s *Service) changing(r *http.Request, refused *notOwned) bool {
	id, refusal := s.Policy.ReadHeader(r.Header.Values(s.Policy.CompanyHeader))
	if refusal != nil || id == 0 {
		return false
	}
	a, err := readArrival(r.Context(), s.DB.Read(), id)
	if err != nil || a != nil {
		return err == nil
	}
	f, err := readFence(r.Context(), s.DB.Read(), id)
	if err != nil {
		return false
	}
	now := f.placement(s.Code)
	return now != *refused
}

// retryFull is when it is worth trying again to write to a full disk.
const retryFull = 30 * time.Second

// refuse answers an error. A refusal of the fence becomes a 421 that tells the gateway
// where to go (RFC 9110 section 15.5.20), a refusal of the token a challenge (RFC 6750
// section 3).
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client went away: nobody is left to be told, and nothing is wrong
	}
	var n *notOwned
	if errors.As(err, &n) {
		if n.region != "" {
			w.Header().Set(RegionHeader, string(n.region))
			w.Header().Set(EpochHeader, strconv.FormatInt(int64(n.epoch), 10))
		}
		refusal := problem.New(problem.WrongRegion, "Region %s doesn't serve this company at this epoch.", s.Code)
		if n.frozen || s.changing(r, n) {
			w.Header().Set(MovingHeader, "1")
		}
		if n.frozen {
			refusal = problem.New(problem.WrongRegion, "Region %s doesn't serve this company just now: it is about to move.", s.Code)
		}
		err = refusal.Because(err)
	}
	if p := problem.From(err); p.Code == problem.Internal && store.IsFull(err) {
		err = problem.New(problem.InsufficientStorage, "Region %s has no room left on its disk, or can't write to it. Nothing was changed; try again later.", s.Code).
			After(retryFull).Because(err)
	}
	err = store.Explain(err)
	switch problem.From(err).Code {
	case problem.MissingToken:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case problem.InvalidToken, problem.WrongEnvironment:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case problem.CompanyMismatch:
		w.Header().Set(RefusalHeader, string(problem.CompanyMismatch)) // the gateways' ledger counts these
	}
	problem.Write(w, r, err)
}

package move

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/problem"
)

// side is the contract of a region (docs/region-contract.md), for one company and on behalf
// of one mover of one move.
type side struct {
	caller *intercom.Caller
	base   string
	region company.Region
	move   *Move
}

type fence struct {
	State     string         `json:"state"`
	Epoch     company.Epoch  `json:"epoch"`
	Version   int64          `json:"version"`
	GoneTo    company.Region `json:"gone_region"`
	GoneEpoch company.Epoch  `json:"gone_epoch"`
	Purged    bool           `json:"purged"`
}

type arrival struct {
	Move    string `json:"move"`
	Table   string `json:"table"`
	After   string `json:"after"`
	Copied  bool   `json:"copied"`
	Version int64  `json:"version"`
}

type state struct {
	Fence   *fence           `json:"fence"`
	Arrival *arrival         `json:"arrival"`
	Turn    int64            `json:"turn"`
	Rows    map[string]int64 `json:"rows"`
	Tables  []string         `json:"tables"`
	Bytes   int64            `json:"bytes"`
	// Room is how many bytes of companies may arrive; nil where the region doesn't know.
	Room *int64 `json:"room"`
}

type rowPage struct {
	Rows    []json.RawMessage `json:"rows"`
	After   string            `json:"after"`
	End     string            `json:"end"`
	Last    bool              `json:"last"`
	Version int64             `json:"version"`
}

type changeBatch struct {
	Changes []json.RawMessage `json:"changes"`
	Version int64             `json:"version"`
}

type checksum struct {
	Version int64          `json:"version"`
	Tables  map[string]Sum `json:"tables"`
}

func (s *side) url(verb string, query url.Values) string {
	u := fmt.Sprintf("%s/contract/v1/companies/%d/%s", s.base, s.move.Company, verb)
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

// post has the region do something.
func (s *side) post(ctx context.Context, verb string, members map[string]any, out any) error {
	all := map[string]any{"move": s.move.ID, "turn": s.move.turn}
	maps.Copy(all, members)
	_, err := s.caller.Call(ctx, http.MethodPost, s.url(verb, nil), all, out)
	return s.wrap(err)
}

func (s *side) wrap(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, problem.New(problem.MoverReplaced, "")) {
		return fmt.Errorf("%w: %w", errReplaced, err)
	}
	return fmt.Errorf("region %s: %w", s.region, err)
}

func (s *side) get(ctx context.Context, verb string, query url.Values, out any) error {
	_, err := s.caller.Call(ctx, http.MethodGet, s.url(verb, query), nil, out)
	return s.wrap(err)
}

// state asks how things stand. To count the rows of a large company takes a while.
func (s *side) state(ctx context.Context, rows bool) (st state, err error) {
	if rows {
		return st, s.getAll(ctx, "state", url.Values{"rows": {"1"}}, &st)
	}
	return st, s.get(ctx, "state", url.Values{}, &st)
}

// silentFor is how long a region may say nothing while it reads all rows.
const silentFor = 2 * time.Minute

// heard is a body whose reader is told of each part of it.
type heard struct {
	io.Reader
	of func()
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.of()
	return n, err
}

// getAll is get for what reads all rows, which takes as long as it takes: the region says something
// from time to time.
func (s *side) getAll(ctx context.Context, verb string, query url.Values, out any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(silentFor, cancel)
	defer silent.Stop()
	body, err := s.caller.Open(ctx, http.MethodGet, s.url(verb, query), nil)
	if err != nil {
		return s.wrap(err)
	}
	err = json.NewDecoder(heard{body, func() { silent.Reset(silentFor) }}).Decode(out)
	return s.wrap(errors.Join(err, body.Close()))
}

// rows reads a page after a key, up to another one; "" for all there are.
func (s *side) rows(ctx context.Context, table, after, until string, limit int) (p rowPage, err error) {
	query := url.Values{"table": {table}, "after": {after}, "limit": {fmt.Sprint(limit)}}
	if until != "" {
		query.Set("until", until)
	}
	return p, s.get(ctx, "rows", query, &p)
}

func (s *side) changes(ctx context.Context, after, until int64) (b changeBatch, err error) {
	query := url.Values{"after": {fmt.Sprint(after)}}
	if until > 0 {
		query.Set("until", fmt.Sprint(until))
	}
	return b, s.get(ctx, "changes", query, &b)
}

// checksum sums up all rows; where since isn't negative, those that were changed after that
// version.
func (s *side) checksum(ctx context.Context, since int64) (c checksum, err error) {
	query := url.Values{}
	if since >= 0 {
		query.Set("since", fmt.Sprint(since))
	}
	return c, s.getAll(ctx, "checksum", query, &c)
}

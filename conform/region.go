package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxAnswer is the most that a mover reads of an answer, in bytes.
	maxAnswer = 16 << 20
	// answerWithin bounds each call.
	answerWithin = 2 * time.Minute
)

// newClient goes straight to the region, whatever proxy the environment names, and follows no
// redirect: the secret would go along.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute},
		Timeout:       answerWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what came back, whatever it is.
type answer struct {
	asked  string
	status int
	header http.Header
	body   []byte
}

// code is that of a refusal; "" where it tells none.
func (a answer) code() string {
	var refusal struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(a.body, &refusal) // then it has none
	return refusal.Code
}

func (a answer) String() string {
	if a.status/100 == 2 || a.code() == "" {
		return fmt.Sprintf("%s: %d %.300s", a.asked, a.status, bytes.TrimSpace(a.body))
	}
	return fmt.Sprintf("%s: %d %s", a.asked, a.status, a.code())
}

// finding is what a check has found that isn't as the contract says.
type finding struct{ want, got string }

func (f *finding) Error() string { return "expected " + f.want + ", and got " + f.got }

func found(got fmt.Stringer, want string, args ...any) error {
	return &finding{fmt.Sprintf(want, args...), got.String()}
}

// fine wants a 200 and reads it into out, where that isn't nil.
func (a answer) fine(out any) error {
	if a.status != http.StatusOK {
		return found(a, "200")
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return found(a, "a body as the contract describes it (%v)", err)
	}
	return nil
}

// refused wants one of these pairs of a status and a code.
func (a answer) refused(pairs ...refusal) error {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		if a.status == p.status && a.code() == p.code {
			return nil
		}
		names[i] = fmt.Sprintf("%d %s", p.status, p.code)
	}
	return found(a, "%s", strings.Join(names, " or "))
}

// refusal is a way to refuse.
type refusal struct {
	status int
	code   string
}

var (
	conflict     = refusal{http.StatusConflict, "conflict"}
	replaced     = refusal{http.StatusConflict, "mover_replaced"}
	notFound     = refusal{http.StatusNotFound, "not_found"}
	invalid      = refusal{http.StatusUnprocessableEntity, "invalid"}
	badRequest   = refusal{http.StatusBadRequest, "bad_request"}
	malformed    = refusal{http.StatusBadRequest, "malformed_json"}
	shortened    = refusal{http.StatusGone, "log_shortened"}
	noMethod     = refusal{http.StatusMethodNotAllowed, "method_not_allowed"}
	unauthorized = refusal{http.StatusUnauthorized, "unauthorized"}
	forbidden    = refusal{http.StatusForbidden, "forbidden"}
)

// same wants two answers to say the same.
func same(first, second answer) error {
	if first.status == second.status && bytes.Equal(compact(first.body), compact(second.body)) {
		return nil
	}
	return found(second, "the same answer as before (%s)", first)
}

func compact(data []byte) []byte {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return data
	}
	out, err := json.Marshal(v)
	if err != nil {
		return data
	}
	return out
}

// send makes a call. What makes it impossible to hear an answer is an error.
func (s *suite) send(ctx context.Context, method, to string, header http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	a := answer{asked: method + " " + strings.TrimPrefix(strings.TrimPrefix(to, s.URL), s.API)}
	resp, err := s.client.Do(req)
	if err != nil {
		return a, err // names method and URL already
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(a.body) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if err != nil {
		return a, fmt.Errorf("%s: read the answer: %w", a.asked, err)
	}
	return a, nil
}

func (s *suite) bearer() http.Header {
	return http.Header{"Authorization": {"Bearer " + s.Secret}, "Accept": {"application/json"}}
}

func (s *suite) path(verb string) string {
	return fmt.Sprintf("%s/contract/v1/companies/%d/%s", s.URL, s.Company, verb)
}

// get asks something: pairs are the query's.
func (s *suite) get(ctx context.Context, verb string, pairs ...string) (answer, error) {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		query.Set(pairs[i], pairs[i+1])
	}
	to := s.path(verb)
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	return s.send(ctx, http.MethodGet, to, s.bearer(), nil)
}

// members are those of a body besides the move and the turn.
type members map[string]any

// body is that of an operation, on behalf of the mover that the suite plays.
func (s *suite) body(m members) []byte {
	all := map[string]any{"move": s.move, "turn": s.turn}
	maps.Copy(all, m)
	data, _ := json.Marshal(all) // of what we have made
	return data
}

// post has the region do something.
func (s *suite) post(ctx context.Context, verb string, m members) (answer, error) {
	return s.send(ctx, http.MethodPost, s.path(verb), s.bearer(), s.body(m))
}

// do is post for what must be answered 200, with the answer in out.
func (s *suite) do(ctx context.Context, verb string, m members, out any) error {
	a, err := s.post(ctx, verb, m)
	if err != nil {
		return err
	}
	return a.fine(out)
}

// ask is get for what must be answered 200, with the answer in out.
func (s *suite) ask(ctx context.Context, out any, verb string, pairs ...string) error {
	a, err := s.get(ctx, verb, pairs...)
	if err != nil {
		return err
	}
	return a.fine(out)
}

// fence, arrival and state are what the region says of the company.
type fence struct {
	State      string `json:"state"`
	Epoch      int64  `json:"epoch"`
	Version    int64  `json:"version"`
	GoneRegion string `json:"gone_region"`
	GoneEpoch  int64  `json:"gone_epoch"`
	Purged     bool   `json:"purged"`
}

type arrival struct {
	Move    string `json:"move"`
	Epoch   int64  `json:"epoch"`
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
}

type page struct {
	Rows    []json.RawMessage `json:"rows"`
	After   string            `json:"after"`
	End     string            `json:"end"`
	Last    bool              `json:"last"`
	Version int64             `json:"version"`
}

type changes struct {
	Changes []entry `json:"changes"`
	Version int64   `json:"version"`
}

type checksum struct {
	Version int64          `json:"version"`
	Tables  map[string]sum `json:"tables"`
}

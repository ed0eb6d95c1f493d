package conform

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// doorChecks are about API calls of a company that moves. They need [Options.API].
var doorChecks = []Check{
	{Name: "door.serves", stage: serving, API: true, run: doorServes,
		Rule: "Calls are served at the epoch at which the region owns the company, and at no other."},
	{Name: "door.logs", stage: serving, API: true, run: doorLogs,
		Rule: "Each write has the company's next versions, one for each row that it changes, and an entry of the change log for each."},
	{Name: "door.frozen", stage: frozen, API: true, run: doorFrozen,
		Rule: "While a company is frozen every call is answered `421` with `Mpr-Moving: 1`."},
	{Name: "door.freeze-ends-writes", stage: serving, API: true, run: doorFreezeEndsWrites,
		Rule: "`freeze` answers after the writes under way have ended: what is answered as done is in the version that it answers, and nothing comes after it."},
	{Name: "door.gone", stage: left, API: true, run: doorGone,
		Rule: "While a company is gone every call is answered `421` with `Mpr-Region` and `Mpr-Epoch`, which say where it lives."},
	{Name: "door.returning", stage: returning, API: true, run: doorReturning,
		Rule: "While a company is on its way here every call is answered `421` with `Mpr-Moving: 1`."},
}

// call makes an API call as a gateway does.
func (s *suite) call(ctx context.Context, method string, epoch int64, body string) (answer, error) {
	header := http.Header{"Authorization": {"Bearer " + s.Token}, "Mpr-Epoch": {strconv.FormatInt(epoch, 10)}, "Accept": {"application/json"}}
	header.Set(s.CompanyHeader, s.Company.String())
	return s.send(ctx, method, fmt.Sprintf("%s/rest/v1.0/companies/%d", s.API, s.Company), header, []byte(body))
}

// rename writes: it names the company.
func (s *suite) rename(ctx context.Context, epoch int64, name string) (answer, error) {
	body, err := json.Marshal(map[string]any{"company": map[string]string{"name": name}})
	if err != nil {
		return answer{}, err
	}
	return s.call(ctx, http.MethodPatch, epoch, string(body))
}

// away wants reads and writes to be answered 421, with these headers; "" for none.
func (s *suite) away(ctx context.Context, epoch int64, headers map[string]string) error {
	for _, method := range []string{http.MethodGet, http.MethodPatch} {
		body := ""
		if method == http.MethodPatch {
			body = `{"company":{"name":"never"}}`
		}
		a, err := s.call(ctx, method, epoch, body)
		if err != nil {
			return err
		}
		if a.status != http.StatusMisdirectedRequest {
			return found(a, "421")
		}
		for name, value := range headers {
			if got := a.header.Get(name); got != value {
				return &finding{fmt.Sprintf("421 with %s: %q", name, value), fmt.Sprintf("%s with %q", a, got)}
			}
		}
	}
	return nil
}

func doorServes(ctx context.Context, s *suite, st state) error {
	a, err := s.call(ctx, http.MethodGet, s.epoch, "")
	if err != nil {
		return err
	}
	if err := a.fine(nil); err != nil {
		return err
	}
	for _, epoch := range []int64{s.epoch - 1, s.epoch + 1} {
		if epoch < 1 {
			continue
		}
		if err := s.away(ctx, epoch, map[string]string{"Mpr-Epoch": strconv.FormatInt(s.epoch, 10), "Mpr-Moving": ""}); err != nil {
			return err
		}
	}
	return s.unchanged(ctx, st, "calls at other epochs")
}

func doorLogs(ctx context.Context, s *suite, st state) error {
	for _, name := range []string{"conform 1", tricky[:20] + " 2"} {
		a, err := s.rename(ctx, s.epoch, name)
		if err != nil {
			return err
		}
		if err := a.fine(nil); err != nil {
			return err
		}
	}
	log, err := s.readLog(ctx, st.Fence.Version)
	if err != nil {
		return err
	}
	rows, version, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	if len(log) < 2 || version != st.Fence.Version+int64(len(log)) {
		return &finding{"an entry for each write, and as many versions", fmt.Sprintf("%d entries after version %d, and version %d", len(log), st.Fence.Version, version)}
	}
	w := &twin{rows: map[string][]row{}}
	for _, t := range schema {
		w.rows[t.name] = append(w.rows[t.name], rows[t.name]...)
	}
	for _, e := range log {
		if err := w.apply(e); err != nil {
			return &finding{"entries with rows", err.Error()}
		}
	}
	if difference := w.differences(rows); difference != "" {
		return &finding{"the rows as the change log says", difference}
	}
	return nil
}

func doorFrozen(ctx context.Context, s *suite, st state) error {
	if err := s.away(ctx, s.epoch, map[string]string{"Mpr-Moving": "1"}); err != nil {
		return err
	}
	return s.unchanged(ctx, st, "calls while the company is frozen")
}

// writers change the company at one epoch until they are refused.
type writers struct {
	*suite
	epoch int64
	// done counts what was answered as done; some hears when there is some of it.
	done   atomic.Int64
	some   chan struct{}
	frozen atomic.Bool
	work   sync.WaitGroup
	mu     sync.Mutex
	err    error
}

func (w *writers) write(ctx context.Context, n int) {
	for i := 0; ctx.Err() == nil; i++ {
		late := w.frozen.Load()
		a, err := w.rename(ctx, w.epoch, fmt.Sprintf("writer %d, %d", n, i))
		switch {
		case err == nil && a.status == http.StatusMisdirectedRequest:
			return
		case err == nil && (late || a.status != http.StatusOK):
			err = found(a, "%s", map[bool]string{true: "421 after the freeze was answered", false: "200 or 421"}[late])
		case err == nil:
			if w.done.Add(1) == 8 {
				close(w.some)
			}
			continue
		}
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
		return
	}
}

// doorFreezeEndsWrites freezes while several clients write.
func doorFreezeEndsWrites(ctx context.Context, s *suite, st state) error {
	w := &writers{suite: s, epoch: s.epoch, some: make(chan struct{})}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	for n := range 4 {
		w.work.Go(func() { w.write(writing, n) })
	}
	ended := make(chan struct{})
	go func() { w.work.Wait(); close(ended) }()
	select {
	case <-w.some:
	case <-ended:
	}
	var said ownership
	err := s.do(ctx, "freeze", members{"epoch": s.epoch}, &said)
	if w.frozen.Store(true); err != nil {
		stop() // nothing else ends them
	}
	if <-ended; err != nil || w.err != nil {
		return cmp.Or(err, w.err)
	}
	now, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	log, err := s.readLog(ctx, st.Fence.Version)
	if err != nil {
		return err
	}
	if now.Fence.Version != said.Version || int64(len(log)) != said.Version-st.Fence.Version || int64(len(log)) < w.done.Load() {
		return &finding{fmt.Sprintf("version %d to stay, and all of %d writes that were answered as done to be in it", said.Version, w.done.Load()),
			fmt.Sprintf("version %d, and %d entries of the change log since", now.Fence.Version, len(log))}
	}
	return nil
}

func doorGone(ctx context.Context, s *suite, _ state) error {
	return s.away(ctx, s.epoch, map[string]string{"Mpr-Region": string(s.Region), "Mpr-Epoch": strconv.FormatInt(s.epoch, 10), "Mpr-Moving": ""})
}

func doorReturning(ctx context.Context, s *suite, st state) error {
	if err := s.away(ctx, s.epoch, map[string]string{"Mpr-Moving": "1"}); err != nil {
		return err
	}
	return s.unchanged(ctx, st, "calls while the company is on its way")
}

package limit

import (
	"errors"
	"slices"
	"time"
)

// reply answers a gateway that wants a share of what is left. A share of ours that nobody
// uses is given up; otherwise it is smaller from now on.
func (l *Limiter) reply(p *peer, number uint64, e *entry) {
	said := entry{Client: e.Client, Hour: [2]int64{e.Hour[0], 0}, Spike: [2]int64{e.Spike[0], 0}}
	if a := l.lock(e.Client); a != nil {
		a.hear(p, e, l.now().Unix()).wants = true
		if a.asking == nil && time.Since(a.called) > idle {
			a.wants = false
		}
		said = a.entry([kinds]int64{e.Hour[0], e.Spike[0]})
		a.mu.Unlock()
	}
	_ = l.send(message{Word: answer, To: p.name, Ask: number, Apps: []entry{said}}) // who asked will ask again
}

func (l *Limiter) hearAnswer(p *peer, m *message) {
	a := l.lock(m.Apps[0].Client)
	if a == nil {
		return
	}
	defer a.mu.Unlock()
	a.hear(p, &m.Apps[0], l.now().Unix()).wants = m.Apps[0].Wants
	if q := a.asking; q != nil && m.To == l.name && m.Ask == q.number {
		if q.missing = slices.DeleteFunc(q.missing, func(other *peer) bool { return other == p }); len(q.missing) == 0 {
			l.settle(a, q)
		}
	}
}

// question is what the others are asked: to know what this gateway has counted of an app,
// and to answer.
type question struct {
	number  uint64
	term    uint64
	told    [kinds]tally
	missing []*peer // who hasn't answered
	limit   *time.Timer
	over    chan struct{} // closed when all have answered, or it takes too long
}

var errNobody = errors.New("there is nobody to ask")

// ask asks the others, and answers what is closed when that is over. a.mu is held.
func (l *Limiter) ask(a *app, windows [kinds]int64, with *known) <-chan struct{} {
	q := &question{number: l.asked.Add(1), term: l.term.Load(), over: make(chan struct{})}
	for k := range kinds {
		q.told[k] = tally{windows[k], a.own[k].in(windows[k])}
	}
	for _, p := range with.peers {
		if p.state.Load() == live {
			q.missing = append(q.missing, p)
		}
	}
	a.asking = q
	err := errNobody
	if len(q.missing) > 0 {
		err = l.send(message{Word: ask, Ask: q.number, Apps: []entry{a.entry(windows)}})
	}
	if err != nil {
		l.giveUp(a)
		return q.over
	}
	q.limit = time.AfterFunc(l.answerWithin, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.asking == q {
			l.giveUp(a)
		}
	})
	return q.over
}

// giveUp ends a question that not all have answered. a.mu is held.
func (l *Limiter) giveUp(a *app) {
	a.unanswered, a.notBefore = true, time.Now().Add(askAgain)
	close(a.asking.over)
	a.asking = nil
}

// settle ends a question that all have answered: they know what was counted here, so what
// is left is divided anew. a.mu is held.
func (l *Limiter) settle(a *app, q *question) {
	q.limit.Stop()
	if q.term != l.term.Load() {
		l.giveUp(a)
		return
	}
	a.acked, a.wants, a.term, a.unanswered, a.asking = q.told, true, q.term, false, nil
	w := windowsOf(a, l.now())
	if _, fits := w.fit(a, l.view.Load(), false); !fits {
		a.notBefore, a.barren = time.Now().Add(askPause), w.number
	}
	close(q.over)
}

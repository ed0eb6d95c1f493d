package move

import (
	"flag"
	"fmt"
	"hash/maphash"
	"slices"
	"testing"
)

// A model of the protocol, small enough for all of its interleavings to be tried: two movers,
// two regions, the directory, writers, an operator, and a network that loses, delays and
// repeats. What a region does with a message is what region/departure.go and
// region/arrival.go do, and what a mover does next is what copy.go and cut.go do, less rows,
// holds and checksums. A version stands for all rows up to it: only the owner makes new ones.

type fenceState int8

const (
	none fenceState = iota
	owned
	frozen
	gone
)

// modelSide is a region.
type modelSide struct {
	state                           fenceState
	epoch, goneEpoch, version, turn int8
	purged                          bool
	abandoned                       int8 // the number of the last move that was
	// The arrival; arriving is the number of its move.
	arriving, arrivingFrom, arrived int8
	copied                          bool
}

type verb int8

const (
	depart verb = iota
	freeze
	thaw
	leave
	arrive
	rows
	changes
	activate
	abandon
	settle
	place // a compare-and-set in the directory
)

var verbs = [...]string{"depart", "freeze", "thaw", "leave", "arrive", "rows", "changes", "activate", "abandon", "settle", "place"}

// message asks a region, or the directory, for something.
type message struct {
	verb       verb
	to         int8 // the region; the region of the new placement for place
	move, turn int8
	epoch      int8
	since      int8 // changes: the version that they begin after; place: the revision
	version    int8
	reuse      bool
}

// counter is where a mover is.
type counter int8

const (
	idle counter = iota
	copyLook
	copyDepart
	copyArrive
	copyRows
	followChanges
	cutLook
	cutFreeze
	cutChanges
	cutPlace
	cutActivate
	backLook
	backFence
	backPlace
	backThaw
	abortAbandon
	abortSettle
	endLook
	endActivate
	endLeave
)

var counters = [...]string{
	"idle", "copyLook", "copyDepart", "copyArrive", "copyRows", "followChanges", "cutLook", "cutFreeze", "cutChanges", "cutPlace", "cutActivate",
	"backLook", "backFence", "backPlace", "backThaw", "abortAbandon", "abortSettle", "endLook", "endActivate", "endLeave",
}

// modelMover works on the move that is queued, or was.
type modelMover struct {
	at         counter
	move, turn int8
	epoch, rev int8 // of the placement that it saw
	version    int8
	reuse      bool
	givesUp    bool // it gives back because the move is given up
}

// modelPhase is how far the queue knows the move to be.
type modelPhase int8

const (
	copying modelPhase = iota
	following
	cutting
	aborting
	committed
	retained
	aborted
)

var phases = [...]string{"copying", "following", "cutting", "aborting", "committed", "retained", "aborted"}

const (
	modelMovers = 2
	limbo       = 2 // messages that are on their way for long
	maxEpoch    = 12
)

// flaw leaves out something that the protocol needs.
type flaw int8

const (
	flawless               flaw = iota
	abandonedArrivals           // a request to arrive is granted after the arrival was given up
	epochsUsedAgain             // the source keeps its epoch where it doesn't seem to be frozen
	placementsWithoutTurns      // a mover that was asleep may change the directory
	flaws
)

type model struct {
	flaw                                 flaw
	dirRegion, dirEpoch, dirRev, dirTurn int8
	sides                                [2]modelSide
	written, toWrite                     int8 // acknowledged, and to come
	// The queue.
	move, turn int8
	phase      modelPhase
	abort      bool
	froze      bool // the source may have been asked to freeze
	movers     [modelMovers]modelMover
	late       [limbo]message
	faults     int8
	owners     [maxEpoch]int8 // by epoch, which region has owned the company: 0 none, 1 or 2
}

func (w *model) from() int8 { return (w.move - 1) % 2 }

func (m *modelMover) from() int8 { return (m.move - 1) % 2 }
func (m *modelMover) to() int8   { return m.move % 2 }

// modelAnswer is what a message came to.
type modelAnswer struct {
	ok      bool
	refused bool // it came to nothing, and the sender knows
	version int8 // of what is there; of what has arrived for changes
}

// deliver has a message do what it asks for.
func (w *model) deliver(m message) modelAnswer {
	if m.verb == place {
		if w.dirRev != m.since || m.epoch <= w.dirEpoch || m.turn < w.dirTurn && w.flaw != placementsWithoutTurns {
			return modelAnswer{refused: true}
		}
		w.dirRegion, w.dirEpoch, w.dirRev, w.dirTurn = m.to, m.epoch, w.dirRev+1, m.turn
		return modelAnswer{ok: true}
	}
	s := &w.sides[m.to]
	if s.turn > m.turn {
		return modelAnswer{refused: true}
	}
	was := *s
	s.turn = m.turn
	fine := false
	switch m.verb {
	case depart:
		fine = (s.state == owned || s.state == frozen) && s.epoch == m.epoch
	case freeze:
		if fine = (s.state == owned || s.state == frozen) && s.epoch == m.epoch; fine {
			s.state = frozen
		}
	case thaw:
		if fine = s.state != none && s.state != gone && s.epoch <= m.epoch && (s.state != frozen || s.epoch != m.epoch); fine {
			s.state, s.epoch = owned, m.epoch
		}
	case leave:
		switch {
		case s.state == gone && s.goneEpoch >= m.epoch:
			fine = true
		case s.state == frozen && s.epoch < m.epoch, s.state == gone && s.epoch < m.epoch:
			s.state, s.goneEpoch, fine = gone, m.epoch, true
		}
	case arrive:
		switch {
		case s.abandoned == m.move && w.flaw != abandonedArrivals:
		case s.arriving == m.move:
			fine = true
		case s.state == none, s.state == gone && s.goneEpoch <= m.epoch:
			fine = true
			s.arriving, s.arrivingFrom, s.arrived = m.move, m.epoch, m.version
			s.copied = s.state == gone && s.version == m.version && !s.purged && m.reuse
		}
	case rows:
		if fine = s.arriving == m.move; fine {
			s.copied = true
		}
	case changes:
		if fine = s.arriving == m.move && s.copied && m.since <= s.arrived; fine {
			s.arrived = max(s.arrived, m.version)
		}
	case activate:
		switch {
		case s.state == owned && s.epoch >= m.epoch:
			fine = true
		case s.state == owned, s.state == frozen, s.state == gone && s.goneEpoch >= m.epoch:
		case s.arriving == m.move && s.copied && s.arrived == m.version && m.epoch > s.arrivingFrom:
			fine = true
			s.state, s.epoch, s.version, s.purged = owned, m.epoch, s.arrived, false
			s.arriving, s.arrivingFrom, s.arrived, s.copied = 0, 0, 0, false
		}
	case abandon:
		fine, s.abandoned = true, m.move
		if s.arriving == m.move {
			s.purged = s.purged || s.state == gone
			s.arriving, s.arrivingFrom, s.arrived, s.copied = 0, 0, 0, false
		}
	case settle:
		fine = true
	}
	if !fine {
		*s = was // the transaction is rolled back
	}
	a := modelAnswer{fine, !fine, s.version}
	if m.verb == changes {
		a.version = s.arrived
	}
	return a
}

// tidy makes one state of those that differ in nothing that matters.
func (w *model) tidy() {
	for i := range w.movers {
		switch m := &w.movers[i]; m.at {
		case idle:
			*m = modelMover{}
		case copyLook, followChanges, cutLook, backLook, endLook, abortAbandon, abortSettle:
			*m = modelMover{at: m.at, move: m.move, turn: m.turn, givesUp: m.givesUp}
		}
	}
	if w.movers[0].at == idle || w.movers[1].at != idle && w.movers[0].turn < w.movers[1].turn {
		w.movers[0], w.movers[1] = w.movers[1], w.movers[0]
	}
	if w.late[0] == (message{}) {
		w.late[0], w.late[1] = w.late[1], w.late[0]
	}
}

// own notes who owns the company, and says what must never be.
func (w *model) own() string {
	for i := range w.sides {
		s := &w.sides[i]
		if s.state != owned {
			continue
		}
		if w.sides[1-i].state == owned {
			return "both regions own the company"
		}
		if s.version != w.written {
			return fmt.Sprintf("region %d owns the company at version %d, and %d writes were acknowledged", i, s.version, w.written)
		}
		switch w.owners[s.epoch] {
		case 0:
			w.owners[s.epoch] = int8(i) + 1
		case int8(i) + 1:
		default:
			return fmt.Sprintf("both regions have owned the company at epoch %d", s.epoch)
		}
	}
	return ""
}

// settled says whether all is as it should be when nothing more happens.
func (w *model) settled() bool {
	s, other := &w.sides[w.dirRegion], &w.sides[1-w.dirRegion]
	if s.state != owned || s.epoch != w.dirEpoch || other.state == owned || other.state == frozen || other.arriving != 0 {
		return false
	}
	return w.phase == retained && w.dirRegion != w.from() || w.phase == aborted && w.dirRegion == w.from()
}

// over says whether the queue has nothing more to do, and nobody does anything.
func (w *model) over() bool {
	for i := range w.movers {
		if w.movers[i].at != idle {
			return false
		}
	}
	return w.phase == retained || w.phase == aborted
}

// steps calls visit for each state that may come next.
func (w *model) steps(visit func(label string, next model)) {
	do := func(label string, f func(*model)) {
		next := *w
		f(&next)
		visit(label, next)
	}
	for i := range w.sides {
		if w.sides[i].state == owned && w.toWrite > 0 {
			do(fmt.Sprintf("a write at region %d", i), func(w *model) { w.sides[i].version++; w.written++; w.toWrite-- })
		}
	}
	for i, m := range w.late {
		if m != (message{}) {
			do(fmt.Sprintf("late: %s", verbs[m.verb]), func(w *model) { w.late[i] = message{}; w.deliver(m) })
		}
	}
	if !w.abort && w.phase <= cutting {
		do("an operator aborts", func(w *model) { w.abort = true })
	}
	if w.phase == retained && w.move == 1 {
		do("the company is to move back", func(w *model) { w.move, w.phase, w.abort, w.froze = 2, copying, false, false })
		if s := &w.sides[w.from()]; s.state == gone && s.arriving == 0 && !s.purged {
			do("the copy is purged", func(w *model) { w.sides[w.from()].purged = true })
		}
	}
	w.claims(do)
	for i := range w.movers {
		if w.movers[i].at == idle {
			continue
		}
		if w.movers[i].turn != w.turn {
			do(fmt.Sprintf("mover %d ends", i), func(w *model) { w.movers[i] = modelMover{} })
		}
		w.act(i, do)
	}
}

// claims has a mover take up the move: where nobody works on it, or where whoever does is
// taken for dead.
func (w *model) claims(do func(string, func(*model))) {
	if w.phase == retained || w.phase == aborted {
		return
	}
	alive := false
	for i := range w.movers {
		alive = alive || w.movers[i].at != idle && w.movers[i].turn == w.turn
	}
	free := slices.IndexFunc(w.movers[:], func(m modelMover) bool { return m.at == idle })
	if free < 0 || alive && w.faults == 0 {
		return
	}
	do(fmt.Sprintf("mover %d takes the move up", free), func(w *model) {
		if alive {
			w.faults--
		}
		w.turn++
		m := modelMover{move: w.move, turn: w.turn}
		switch w.phase {
		case copying:
			m.at = copyLook
		case following:
			m.at = followChanges
		case cutting:
			m.at = cutLook
		case aborting:
			m.at, m.givesUp = backLook, true
		case committed:
			m.at = endLook
		}
		w.movers[free] = m
	})
}

// act is what a mover does next.
func (w *model) act(i int, do func(string, func(*model))) {
	m := w.movers[i]
	name := fmt.Sprintf("mover %d, turn %d, %s", i, m.turn, counters[m.at])
	// send sends a message, and calls then with its answer in each of the ways in which that
	// may go.
	send := func(msg message, then func(*model, *modelMover, modelAnswer)) {
		msg.move, msg.turn = m.move, m.turn
		do(name, func(w *model) { a := w.deliver(msg); then(w, &w.movers[i], a) })
		if w.faults == 0 {
			return
		}
		do(name+", lost", func(w *model) { w.faults--; then(w, &w.movers[i], modelAnswer{}) })
		do(name+", answer lost", func(w *model) { w.faults--; w.deliver(msg); then(w, &w.movers[i], modelAnswer{}) })
		if free := slices.Index(w.late[:], message{}); free >= 0 {
			do(name+", late", func(w *model) { w.faults--; w.late[free] = msg; then(w, &w.movers[i], modelAnswer{}) })
			do(name+", repeated", func(w *model) {
				w.faults--
				w.late[free] = msg
				a := w.deliver(msg)
				then(w, &w.movers[i], a)
			})
		}
	}
	// whether goes on at one place or another.
	whether := func(good, bad counter) func(*model, *modelMover, modelAnswer) {
		return func(_ *model, m *modelMover, a modelAnswer) {
			if m.at = good; !a.ok {
				m.at = bad
			}
		}
	}
	from, to := &w.sides[m.from()], &w.sides[m.to()]
	switch m.at {
	case copyLook:
		do(name, func(w *model) {
			m := &w.movers[i]
			m.epoch, m.at = w.dirEpoch, copyDepart
			switch {
			case w.dirRegion != m.from():
				w.enter(i, aborting)
			case from.state != owned && from.state != frozen || from.epoch != w.dirEpoch:
				*m = modelMover{}
			case to.arriving == m.move:
				m.version = to.arrived
			case to.state == gone && !to.purged:
				m.version, m.reuse = to.version, true
			default:
				m.version = from.version
			}
		})
	case copyDepart:
		send(message{verb: depart, to: m.from(), epoch: m.epoch, version: m.version}, whether(copyArrive, idle))
	case copyArrive:
		send(message{verb: arrive, to: m.to(), epoch: m.epoch, version: m.version, reuse: m.reuse}, whether(copyRows, idle))
	case copyRows:
		if to.copied {
			do(name+", they are there", func(w *model) { w.enter(i, following) })
			return
		}
		send(message{verb: rows, to: m.to()}, func(w *model, m *modelMover, a modelAnswer) {
			if m.at = idle; a.ok {
				w.enter(i, following)
			}
		})
	case followChanges:
		if to.arriving != m.move {
			do(name+", the arrival is forgotten", func(w *model) { w.movers[i].at = idle })
			return
		}
		send(message{verb: changes, to: m.to(), since: to.arrived, version: from.version}, func(w *model, m *modelMover, a modelAnswer) {
			if m.at = idle; a.ok {
				w.enter(i, cutting)
			}
		})
	case cutLook, backLook:
		if w.abort && m.at == cutLook && w.dirRegion != m.to() { // it may have heard so, or not yet
			do(name+", given up", func(w *model) {
				w.froze = w.froze || w.turn == m.turn
				w.enter(i, aborting)
			})
		}
		do(name, func(w *model) {
			m := &w.movers[i]
			look := m.at
			switch m.epoch, m.rev = w.dirEpoch, w.dirRev; {
			case w.dirRegion == m.to():
				m.at = endLook
			case look == cutLook:
				m.at, w.froze = cutFreeze, w.froze || w.turn == m.turn
			default:
				m.at = backFence
			}
		})
	case cutFreeze:
		send(message{verb: freeze, to: m.from(), epoch: m.epoch}, func(_ *model, m *modelMover, a modelAnswer) {
			if m.version, m.at = a.version, cutChanges; !a.ok {
				m.at = backLook
			}
		})
	case cutChanges:
		if to.arriving != m.move || to.arrived >= m.version {
			do(name+", none", func(w *model) {
				m := &w.movers[i]
				if m.at = cutPlace; to.arriving != m.move || to.arrived > m.version {
					m.at = backLook
				}
			})
			return
		}
		send(message{verb: changes, to: m.to(), since: to.arrived, version: m.version}, func(_ *model, m *modelMover, a modelAnswer) {
			if m.at = cutPlace; !a.ok || a.version != m.version {
				m.at = backLook
			}
		})
	case cutPlace:
		send(message{verb: place, to: m.to(), epoch: m.epoch + 1, since: m.rev}, func(_ *model, m *modelMover, a modelAnswer) {
			if m.at = backLook; a.ok {
				m.at, m.epoch = cutActivate, m.epoch+1
			}
		})
	case cutActivate:
		send(message{verb: activate, to: m.to(), epoch: m.epoch, version: m.version}, whether(endLook, endLook))
	case backFence:
		do(name, func(w *model) {
			m := &w.movers[i]
			switch {
			case from.state == owned && from.epoch == m.epoch && (!w.froze || w.flaw == epochsUsedAgain):
				w.givenBack(i)
			default:
				m.epoch, m.at = max(from.epoch, m.epoch)+1, backPlace
			}
		})
	case backPlace:
		send(message{verb: place, to: m.from(), epoch: m.epoch, since: m.rev}, func(_ *model, m *modelMover, a modelAnswer) {
			switch {
			case a.ok:
				m.at = backThaw
			case a.refused:
				m.at = backLook
			default:
				m.at = idle
			}
		})
	case backThaw:
		thawed := message{verb: thaw, to: m.from(), epoch: m.epoch}
		send(thawed, func(w *model, m *modelMover, a modelAnswer) {
			if m.at = idle; a.ok {
				w.givenBack(i)
			}
		})
		if w.faults > 0 {
			do(name+", the gateways can't be told", func(w *model) {
				w.faults--
				thawed.move, thawed.turn = m.move, m.turn
				if w.deliver(thawed).ok && w.turn == m.turn {
					w.froze = false
				}
				w.movers[i].at = idle
			})
		}
	case abortAbandon:
		send(message{verb: abandon, to: m.to()}, whether(abortSettle, idle))
	case abortSettle:
		send(message{verb: settle, to: m.from()}, func(w *model, m *modelMover, a modelAnswer) {
			if m.at = idle; a.ok {
				w.enter(i, aborted)
			}
		})
	case endLook:
		do(name, func(w *model) {
			m := &w.movers[i]
			m.epoch, m.version = w.dirEpoch, to.arrived
			switch {
			case w.dirRegion != m.to():
				w.enter(i, retained)
			case to.state == owned && to.epoch >= w.dirEpoch:
				m.at = endLeave
			case to.arriving != m.move:
				m.at = idle
			default:
				m.at = endActivate
			}
		})
	case endActivate:
		send(message{verb: activate, to: m.to(), epoch: m.epoch, version: m.version}, func(w *model, m *modelMover, a modelAnswer) {
			if m.at = endLeave; !a.ok {
				w.enter(i, committed)
				m.at = idle
			}
		})
	case endLeave:
		send(message{verb: leave, to: m.from(), epoch: m.epoch}, func(w *model, m *modelMover, a modelAnswer) {
			if a.ok {
				w.enter(i, retained)
				return
			}
			w.enter(i, committed)
			m.at = idle
		})
	}
}

// enter has a mover begin a phase, if the move is still its.
func (w *model) enter(i int, p modelPhase) {
	m := &w.movers[i]
	if w.turn != m.turn {
		*m = modelMover{}
		return
	}
	if w.abort && p < cutting {
		p = aborting
	}
	w.phase = p
	next := modelMover{move: m.move, turn: m.turn}
	switch p {
	case following:
		next.at = followChanges
	case cutting:
		next.at = cutLook
	case aborting:
		next.at, next.givesUp = backLook, true
	case committed:
		next.at = endLook
	case retained, aborted:
		next = modelMover{}
	}
	*m = next
}

// givenBack goes on once the source owns the company again: with another try, or by giving
// the move up.
func (w *model) givenBack(i int) {
	m := &w.movers[i]
	if m.givesUp {
		m.at = abortAbandon
		return
	}
	if w.turn == m.turn {
		w.froze = false
	}
	w.enter(i, following)
}

func (w *model) String() string {
	text := fmt.Sprintf("directory: region %d, epoch %d; %d written; move %d is %s, turn %d;", w.dirRegion, w.dirEpoch, w.written, w.move, phases[w.phase], w.turn)
	for i, s := range w.sides {
		text += fmt.Sprintf(" region %d: %s, epoch %d, version %d, turn %d", i, []string{"none", "owned", "frozen", "gone"}[s.state], s.epoch, s.version, s.turn)
		if s.arriving != 0 {
			text += fmt.Sprintf(", move %d arriving at version %d", s.arriving, s.arrived)
		}
		text += ";"
	}
	return text
}

var deeper = flag.Bool("deeper", false, "have TestProtocol try more faults, which takes minutes")

// TestProtocol tries all interleavings of a move there, and of one back, with some faults:
// messages that are lost, late or repeated, and movers that are taken for dead.
func TestProtocol(t *testing.T) {
	bounds := []struct{ faults, writes int8 }{{1, 2}, {2, 1}}
	if *deeper {
		bounds = []struct{ faults, writes int8 }{{2, 3}, {3, 2}}
	}
	for _, b := range bounds {
		states, wrong := explore(flawless, b.faults, b.writes)
		if wrong != "" {
			t.Fatal(wrong)
		}
		t.Logf("%d states with %d faults and %d writes", states, b.faults, b.writes)
	}
}

// TestProtocolNeeds leaves out what keeps rare interleavings harmless, and wants the checker
// to find one.
func TestProtocolNeeds(t *testing.T) {
	for f := flawless + 1; f < flaws; f++ {
		if _, wrong := explore(f, 2, 0); wrong == "" {
			t.Errorf("the protocol does without %d", f)
		}
	}
}

// explore goes through all states, and answers how many there are, or how one comes about
// that must not be.
func explore(f flaw, faults, writes int8) (states int, wrong string) {
	first := model{flaw: f, dirEpoch: 1, dirRev: 1, move: 1, faults: faults, toWrite: writes}
	first.sides[0] = modelSide{state: owned, epoch: 1}
	seed := maphash.MakeSeed()
	hash := func(w model) uint64 { return maphash.Comparable(seed, w) }
	came := map[uint64]uint64{hash(first): 0} // from which state
	// story tells how a state comes about.
	story := func(last model, format string, args ...any) string {
		path := []uint64{hash(last)}
		for at := came[path[0]]; at != 0; at = came[at] {
			path = append(path, at)
		}
		w, text := first, fmt.Sprintf(format, args...)+":\nthe beginning: "+first.String()
		for _, next := range slices.Backward(path[:len(path)-1]) {
			var after *model
			w.steps(func(label string, n model) {
				n.own()
				n.tidy()
				if after == nil && hash(n) == next {
					after = &n
					text += fmt.Sprintf("\n%-50s %s", label, &n)
				}
			})
			w = *after
		}
		return text
	}
	ends := map[modelPhase]int{}
	for now := []model{first}; len(now) > 0; {
		var then []model
		for _, w := range now {
			if w.over() {
				ends[w.phase]++
				if !w.settled() {
					return 0, story(w, "the move is %s, and things aren't in order", phases[w.phase])
				}
			}
			if w.turn > 12 {
				return 0, story(w, "the move makes no progress")
			}
			any := false
			from := hash(w)
			w.steps(func(_ string, next model) {
				any = true
				why := next.own()
				next.tidy()
				h := hash(next)
				if _, ok := came[h]; ok {
					return
				}
				came[h] = from
				then = append(then, next)
				if why != "" && wrong == "" {
					wrong = story(next, "%s", why)
				}
			})
			if wrong != "" {
				return 0, wrong
			}
			if !any && !w.over() {
				return 0, story(w, "nobody does anything")
			}
		}
		now = then
	}
	if ends[retained] == 0 || ends[aborted] == 0 {
		return 0, "no move ended in one of the ways that there are"
	}
	return len(came), ""
}

package limit

import "time"

// kind is one of the windows in which the calls of an app are counted.
type kind int

const (
	hourly kind = iota
	spike
	kinds
)

// spans are the lengths of the windows in seconds.
var spans = [kinds]int64{3600, 10}

// span is the length of the window.
func (k kind) span() time.Duration { return time.Duration(spans[k]) * time.Second }

// at is the number of the window that an app is in, and the Unix second at which it ends.
// Windows follow the clock, so that all gateways agree on them without a word, and are
// shifted by app, so that apps that wait for their hour to end don't all come back at once.
func (k kind) at(unix int64, shift uint32) (window, reset int64) {
	span := spans[k]
	offset := int64(shift) % span
	window = (unix - offset) / span
	if (unix-offset)%span < 0 {
		window-- // before 1970
	}
	return window, (window+1)*span + offset
}

// shiftOf is the same number for an app in every gateway (FNV-1a).
func shiftOf(client string) uint32 {
	h := uint32(2166136261)
	for i := range len(client) {
		h = (h ^ uint32(client[i])) * 16777619
	}
	return h
}

// tally is how many calls were counted in a window.
type tally struct{ Window, N int64 }

// pair is the tallies of two windows that follow one another: where the clock of another
// gateway is ahead, it counts in the next window already.
type pair [2]tally

func (p *pair) in(window int64) int64 {
	if t := p[window&1]; t.Window == window {
		return t.N
	}
	return 0
}

// add counts one more.
func (p *pair) add(window int64) {
	if t := &p[window&1]; t.Window == window {
		t.N++
	} else {
		*t = tally{window, 1}
	}
}

// raise takes what another gateway has counted, unless more is known already.
func (p *pair) raise(t tally) {
	if old := &p[t.Window&1]; t.Window > old.Window || t.Window == old.Window && t.N > old.N {
		*old = t
	}
}

// last is the tally of the newest window.
func (p *pair) last() tally {
	if p[0].Window > p[1].Window {
		return p[0]
	}
	return p[1]
}

package problem

// Told keeps whoever tries something again and again from telling of the same failure each time.
// The zero value has told of nothing. It isn't safe for use by several goroutines.
type Told struct{ last string }

// Anew says whether a failure is another one than that before it; nil is none. Problems are the same
// by their code, whatever causes them.
func (t *Told) Anew(err error) bool {
	before := t.last
	t.last = ""
	if err == nil {
		return false
	}
	if t.last = string(From(err).Code); From(err).Code == Internal {
		t.last = err.Error()
	}
	return t.last != before
}

package pki

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often files are looked at, at the most, when somebody connects.
const lookEvery = 2 * time.Second

// watched is what was made of some files. It is made again when they have changed, and stays
// as it was where that fails: whoever replaces files may be half done, or wrong.
type watched[T any] struct {
	files []string
	// parse is tried again until it takes what the files hold: that may depend on the time, and
	// on other files. The time is zero at the start, when there is nothing better to go on with.
	parse func(contents [][]byte, now time.Time) (T, error)

	current atomic.Pointer[T]
	mu      sync.Mutex // guards the rest: one looks, the others go on
	looked  time.Time
	taken   [][]byte // what current was made of
	told    string   // why what the files hold now isn't taken, as the log says
}

func watch[T any](files []string, parse func([][]byte, time.Time) (T, error)) (*watched[T], error) {
	w := &watched[T]{files: slices.Compact(files), parse: parse, looked: time.Now()}
	contents, err := w.read()
	if err != nil {
		return nil, err
	}
	v, err := parse(contents, time.Time{})
	if err != nil {
		return nil, err
	}
	w.taken = contents
	w.current.Store(&v)
	return w, nil
}

func (w *watched[T]) read() ([][]byte, error) {
	contents := make([][]byte, len(w.files))
	for i, name := range w.files {
		var err error
		if contents[i], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// get answers what the files say, or said last when it could be used.
func (w *watched[T]) get() T {
	if w.mu.TryLock() {
		if now := time.Now(); now.Sub(w.looked) >= lookEvery {
			w.looked = now
			w.look(now)
		}
		w.mu.Unlock()
	}
	return *w.current.Load()
}

func (w *watched[T]) look(now time.Time) {
	contents, err := w.read()
	if err == nil {
		if slices.EqualFunc(contents, w.taken, bytes.Equal) {
			w.told = ""
			return
		}
		var v T
		if v, err = w.parse(contents, now); err == nil {
			w.taken, w.told = contents, ""
			w.current.Store(&v)
			slog.Info("certificates are read again: their files have changed", "files", w.files)
			return
		}
	}
	if w.told != err.Error() { // once for each reason
		w.told = err.Error()
		slog.Error("certificates have changed and can't be used; going on with those before", "files", w.files, "error", err)
	}
}

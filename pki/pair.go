package pki

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files are those of a certificate, with the ones that lead from it to its CA, and of its key.
type Files struct {
	Certificate string
	// Key is the file with the key; empty where it stands in the other one.
	Key string
}

func (f Files) key() string {
	if f.Key == "" {
		return f.Certificate
	}
	return f.Key
}

// lookEvery is how often files are looked at, at the most, when somebody connects.
const lookEvery = 2 * time.Second

// watched is what was made of some files. It is made again when they have changed, and stays
// as it was where that fails: whoever replaces files may be half done, or wrong.
type watched[T any] struct {
	files []string
	parse func(contents [][]byte, now time.Time) (T, error)

	current atomic.Pointer[T]
	mu      sync.Mutex // guards the rest: one looks, the others go on
	looked  time.Time
	seen    [][]byte
	refused bool
}

func watch[T any](files []string, parse func([][]byte, time.Time) (T, error)) (*watched[T], error) {
	w := &watched[T]{files: files, parse: parse, looked: time.Now()}
	contents, err := w.read()
	if err != nil {
		return nil, err
	}
	v, err := parse(contents, time.Time{})
	if err != nil {
		return nil, err
	}
	w.seen = contents
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
			w.look(now)
		}
		w.mu.Unlock()
	}
	return *w.current.Load()
}

func (w *watched[T]) look(now time.Time) {
	w.looked = now
	contents, err := w.read()
	if err == nil {
		same := true
		for i := range contents {
			same = same && bytes.Equal(contents[i], w.seen[i])
		}
		if same {
			return
		}
		w.seen, w.refused = contents, false
		var v T
		if v, err = w.parse(contents, now); err == nil {
			w.current.Store(&v)
			slog.Info("certificates are read again: their files have changed", "files", w.files)
			return
		}
	}
	if !w.refused { // once for each change
		slog.Error("certificates have changed and can't be used; going on with those before", "files", w.files, "error", err)
	}
	w.refused = true
}

// Pairs are certificates with their keys that are read again when their files change.
type Pairs struct{ pairs []*watched[*tls.Certificate] }

// OpenPairs reads certificates and keys. Each must fit its key.
func OpenPairs(files ...Files) (*Pairs, error) {
	p := &Pairs{}
	for _, f := range files {
		pair, err := openPair(f)
		if err != nil {
			return nil, err
		}
		p.pairs = append(p.pairs, pair)
	}
	return p, nil
}

func openPair(f Files) (*watched[*tls.Certificate], error) {
	w, err := watch([]string{f.Certificate, f.key()}, func(contents [][]byte, now time.Time) (*tls.Certificate, error) {
		c, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s don't hold a certificate and its key: %w", f.Certificate, f.key(), err)
		}
		// What is there already may be better than this.
		if !now.IsZero() && now.After(c.Leaf.NotAfter) {
			return nil, fmt.Errorf("the certificate in %s has ended at %s", f.Certificate, c.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		return &c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	if c := *w.current.Load(); time.Now().After(c.Leaf.NotAfter) {
		slog.Error("a certificate has ended: nobody who checks it connects until its files are replaced",
			"file", f.Certificate, "ended", c.Leaf.NotAfter)
	}
	return w, nil
}

// Get chooses the certificate for a client: the first one that is for the host that it names
// and that it can use, or else the first one.
func (p *Pairs) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, pair := range p.pairs {
		c := pair.get()
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
		if first == nil {
			first = c
		}
	}
	return first, nil
}

// Certificates are those that are in use.
func (p *Pairs) Certificates() []*tls.Certificate {
	all := make([]*tls.Certificate, len(p.pairs))
	for i, pair := range p.pairs {
		all[i] = pair.get()
	}
	return all
}

// Server answers over TLS with these certificates, by HTTP/2 or HTTP/1.1.
func (p *Pairs) Server() *tls.Config {
	t := ServerConfig()
	t.GetCertificate = p.Get
	return t
}

// ServerConfig is how we speak TLS to strangers, but for the certificates.
func ServerConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"mpr/intercom"
	"mpr/operator"
	"mpr/problem"
	"mpr/store"
)

// Visitor is the session of a browser that asks for a page; nil where nobody has signed in. A
// form must come from a page of ours: it holds the session's secret in its field csrf.
func (s *Service) Visitor(w http.ResponseWriter, r *http.Request) (*operator.Session, error) {
	session, err := s.browserSession(r)
	if err != nil || safe(r.Method) {
		return session, store.Explain(err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	if err := s.crossOrigin.Check(r); err != nil {
		return session, problem.New(problem.Forbidden, "The form came from another site.").Because(err)
	}
	if session == nil {
		return nil, nil //nolint:nilnil // as above
	}
	if err := r.ParseForm(); err != nil {
		return session, problem.New(problem.BadRequest, "The form can't be read, or is longer than %d bytes.", maxRequest).Because(err)
	}
	return session, session.CheckCSRF(r.PostFormValue("csrf"))
}

// As is a client of the admin API for pages in this process, which asks as somebody who has signed
// in: what a page may show and do is what the one table of routes says, and the audit log has it
// under the same request id. It may be used as long as the page's request lasts.
func (s *Service) As(session *operator.Session, requestID, environment string) *Client {
	caller := intercom.NewCaller(&inside{s, &principal{by: session.Login, role: session.Role, session: session}, requestID}, "")
	return &Client{caller: caller, base: prefix + "/" + segment(environment), session: true}
}

// Environments lists the environments.
func (s *Service) Environments() []EnvironmentInfo {
	list := make([]EnvironmentInfo, len(s.environments))
	for i, e := range s.environments {
		list[i] = EnvironmentInfo{Name: e.Name, LoginURL: e.LoginURL}
	}
	return list
}

// inside has the admin API answer in this process.
type inside struct {
	service   *Service
	who       *principal
	requestID string
}

type insideKey struct{}

// RoundTrip answers a request. The answer is written while it is read.
func (i *inside) RoundTrip(out *http.Request) (*http.Response, error) {
	in := out.Clone(context.WithValue(out.Context(), insideKey{}, i.who))
	in.RequestURI = out.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Header.Set(problem.RequestIDHeader, i.requestID)
	answer := newPiped(out, i.requestID)
	go answer.serve(i.service.Handler(), in)
	select {
	case <-answer.begun:
		return answer.response, nil
	case <-out.Context().Done():
		answer.abandon(context.Cause(out.Context()))
		return nil, context.Cause(out.Context())
	}
}

// piped is an answer on its way from a handler to a client in the same process.
type piped struct {
	response *http.Response
	begun    chan struct{}
	once     sync.Once
	body     *io.PipeWriter
	reader   *io.PipeReader
}

func newPiped(r *http.Request, requestID string) *piped {
	reader, body := io.Pipe()
	return &piped{
		response: &http.Response{ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{problem.RequestIDHeader: {requestID}}, Body: reader, ContentLength: -1, Request: r},
		begun:    make(chan struct{}), body: body, reader: reader,
	}
}

// serve ends when the handler does; a reader that goes away ends its writing.
func (p *piped) serve(h http.Handler, r *http.Request) {
	err := io.ErrUnexpectedEOF // a handler that panics has broken the answer off
	defer func() {
		if broken := recover(); broken != nil {
			if e, is := broken.(error); !is || !errors.Is(e, http.ErrAbortHandler) {
				panic(broken)
			}
		}
		p.WriteHeader(http.StatusInternalServerError) // where it hasn't begun
		_ = p.body.CloseWithError(err)                // never fails
	}()
	h.ServeHTTP(p, r)
	p.WriteHeader(http.StatusOK)
	err = nil
}

func (p *piped) abandon(err error) { _ = p.reader.CloseWithError(err) }

// Header is that of the answer.
func (p *piped) Header() http.Header { return p.response.Header }

// WriteHeader begins the answer.
func (p *piped) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	p.once.Do(func() {
		p.response.StatusCode, p.response.Status = status, http.StatusText(status)
		close(p.begun)
	})
}

func (p *piped) Write(data []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.body.Write(data)
}

// Flush is for handlers that write line by line: each is read when it is written.
func (p *piped) Flush() {}

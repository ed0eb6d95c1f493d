package stack

import (
	"net/http"

	"mpr/console"
	"mpr/control"
	"mpr/observe"
)

// withPages puts the pages beside the admin API.
func (s *system) withPages(service *control.Service) (http.Handler, error) {
	pages, err := console.New(console.Options{Admin: service, Operators: s.config.Control.Operators, Product: s.config.Product, CompanyHeader: s.config.CompanyHeader})
	if err != nil {
		return nil, err
	}
	s.onStop(func() { _ = pages.Close() }) // live updates would keep the listener open
	admin, shown := service.Handler(), pages.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.Serves(r.URL.Path) {
			if r.Header.Get("Accept") == "text/event-stream" {
				observe.Of(r.Context()).Upgraded = true // it takes as long as somebody looks
			}
			shown.ServeHTTP(w, r)
			return
		}
		admin.ServeHTTP(w, r)
	}), nil
}

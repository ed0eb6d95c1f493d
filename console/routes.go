package console

import "net/http"

// routes says where the pages are. Who may see and do what isn't said here: each asks the admin API
// as the visitor.
func (s *Service) routes() {
	const in = "/console/{env}"
	s.mux.HandleFunc("GET "+assetsPath+"{file}", s.asset)
	s.mux.HandleFunc("GET /console/{$}", func(w http.ResponseWriter, r *http.Request) { s.visit(w, r, s.home) })
	s.mux.HandleFunc("GET "+in+"/{$}", s.page(overviewPage))
}

// done are what pages say when a form was taken.
var done = map[string]string{}

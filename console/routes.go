package console

import "net/http"

// routes says where the pages are. Who may see and do what isn't said here: each asks the admin API
// as the visitor.
func (s *Service) routes() {
	const in = "/console/{env}"
	s.mux.HandleFunc("GET "+assetsPath+"{file}", s.asset)
	for _, short := range []string{"/console", "/developers"} {
		s.mux.HandleFunc("GET "+short, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, short+"/", http.StatusSeeOther) })
	}
	s.mux.HandleFunc("GET /console/{$}", func(w http.ResponseWriter, r *http.Request) { s.visit(w, r, s.home) })
	s.mux.HandleFunc("GET "+in+"/{$}", s.page(overviewPage))

	const oneCompany = in + "/companies/{company}"
	s.mux.HandleFunc("GET "+in+"/companies", s.page(companiesPage))
	s.mux.HandleFunc("GET "+in+"/companies/new", s.page(newCompanyPage))
	s.mux.HandleFunc("POST "+in+"/companies/new", s.form(newCompanyPage, createCompany))
	s.mux.HandleFunc("GET "+oneCompany, s.page(companyPage))
	s.mux.HandleFunc("GET "+oneCompany+"/proof", s.page(proofPage))
	s.mux.HandleFunc("POST "+oneCompany+"/move", s.form(companyPage, startMove))
	s.mux.HandleFunc("POST "+oneCompany+"/steer", s.form(companyPage, steerMove))
	s.mux.HandleFunc("POST "+oneCompany+"/users", s.form(companyPage, addUser))
	s.mux.HandleFunc("GET "+in+"/moves", s.page(movesPage))
}

// done are what pages say when a form was taken.
var done = map[string]string{
	"made":   "The company was made.",
	"moving": "The move is queued.",
	"pause":  "The move is paused.",
	"resume": "The move goes on.",
	"abort":  "The move is being given up.",
	"joined": "The user is a member now.",
}

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

	s.mux.HandleFunc("GET "+in+"/apps", s.page(appsPage))
	s.mux.HandleFunc("GET "+in+"/apps/new", s.page(newAppPage))
	s.mux.HandleFunc("POST "+in+"/apps/new", s.form(newAppPage, registerApp))
	s.mux.HandleFunc("GET /developers/{$}", s.page(ownAppsPage))
	s.mux.HandleFunc("GET /developers/new", s.page(newAppPage))
	s.mux.HandleFunc("POST /developers/new", s.form(newAppPage, registerApp))

	s.mux.HandleFunc("GET "+in+"/policy", s.page(policyPage))
	s.mux.HandleFunc("POST "+in+"/policy/dates", s.form(policyPage, setDates))
	s.mux.HandleFunc("POST "+in+"/policy/brownouts", s.form(policyPage, changeBrownout))
	s.mux.HandleFunc("POST "+in+"/policy/brownouts/new", s.form(policyPage, addBrownout))
	s.mux.HandleFunc("GET "+in+"/audit", s.page(auditPage))
	s.mux.HandleFunc("GET "+in+"/directory", s.page(directoryPage))
	s.mux.HandleFunc("POST "+in+"/directory/verify", s.form(directoryPage, startVerification))
	s.mux.HandleFunc("POST "+in+"/directory/drain", s.form(directoryPage, drainRegion))
	s.mux.HandleFunc("POST "+in+"/directory/regions", s.form(directoryPage, addRegion))
	s.mux.HandleFunc("GET "+in+"/keys", s.page(keysPage))
	s.mux.HandleFunc("POST "+in+"/keys", s.form(keysPage, rotateKey))
	s.mux.HandleFunc("GET "+in+"/sandbox", s.page(sandboxPage))
	s.mux.HandleFunc("POST "+in+"/sandbox/refresh", s.form(sandboxPage, refreshSandbox))
	s.mux.HandleFunc("POST "+in+"/sandbox/companies", s.form(sandboxPage, setSandbox))
	s.mux.HandleFunc("GET "+in+"/operators", s.page(operatorsPage))
	s.mux.HandleFunc("POST "+in+"/operators", s.form(operatorsPage, changeRole))
	s.mux.HandleFunc("POST "+in+"/sessions", s.form(operatorsPage, endSession))
	for _, apps := range []string{in + "/apps/{app}", "/developers/apps/{app}"} {
		s.appRoutes(apps)
	}
}

// appRoutes are the pages of an app, which operators and developers share.
func (s *Service) appRoutes(at string) {
	s.mux.HandleFunc("GET "+at, s.page(healthPage))
	s.mux.HandleFunc("POST "+at+"/rehearsal", s.form(healthPage, rehearse))
	s.mux.HandleFunc("GET "+at+"/settings", s.page(settingsPage))
	s.mux.HandleFunc("POST "+at+"/secret", s.form(settingsPage, rotateSecret))
	s.mux.HandleFunc("POST "+at+"/sandbox", s.form(settingsPage, completeSandbox))
	s.mux.HandleFunc("POST "+at+"/redirects", s.form(settingsPage, setRedirects))
	s.mux.HandleFunc("POST "+at+"/limits", s.form(settingsPage, setLimits))
	s.mux.HandleFunc("POST "+at+"/owners", s.form(settingsPage, changeOwners))
	s.mux.HandleFunc("GET "+at+"/installations", s.page(installationsPage))
	s.mux.HandleFunc("GET "+at+"/events", s.page(eventsPage))
	s.mux.HandleFunc("POST "+at+"/events", s.form(eventsPage, changeWebhook))
}

// done are what pages say when a form was taken.
var done = map[string]string{
	"made":   "The company was made.",
	"moving": "The move is queued.",
	"pause":  "The move is paused.",
	"resume": "The move goes on.",
	"abort":  "The move is being given up.",
	"joined": "The user is a member now.",

	"saved":      "Saved.",
	"rehearsing": "The rehearsal is set. All gateways follow within a second.",
	"rehearsed":  "The rehearsal is over: the app finds the legacy door as everybody else does.",
	"again":      "The event is sent again.",

	"policy":     "The policy is in force. All gateways follow within a second.",
	"comparing":  "The comparison has begun.",
	"rotated":    "A new key was announced.",
	"refreshing": "The refresh has begun.",
	"ended":      "The session is over.",
}

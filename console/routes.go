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
	s.get(in+"/{$}", overviewPage)

	const oneCompany = in + "/companies/{company}"
	s.get(in+"/companies", companiesPage)
	s.get(in+"/companies/new", newCompanyPage)
	s.post(in+"/companies/new", newCompanyPage, createCompany)
	s.get(oneCompany, companyPage)
	s.get(oneCompany+"/proof", proofPage)
	s.post(oneCompany+"/move", companyPage, startMove)
	s.post(oneCompany+"/steer", companyPage, steerMove)
	s.post(oneCompany+"/users", companyPage, addUser)
	s.get(in+"/moves", movesPage)

	s.get(in+"/apps", appsPage)
	s.get(in+"/apps/new", newAppPage)
	s.post(in+"/apps/new", newAppPage, registerApp)
	s.get("/developers/{$}", ownAppsPage)
	s.get("/developers/new", newAppPage)
	s.post("/developers/new", newAppPage, registerApp)

	s.get(in+"/policy", policyPage)
	s.post(in+"/policy/dates", policyPage, setDates)
	s.post(in+"/policy/brownouts", policyPage, changeBrownout)
	s.post(in+"/policy/brownouts/new", policyPage, addBrownout)
	s.get(in+"/audit", auditPage)
	s.get(in+"/directory", directoryPage)
	s.post(in+"/directory/verify", directoryPage, startVerification)
	s.post(in+"/directory/drain", directoryPage, drainRegion)
	s.post(in+"/directory/regions", directoryPage, addRegion)
	s.get(in+"/keys", keysPage)
	s.post(in+"/keys", keysPage, rotateKey)
	s.get(in+"/sandbox", sandboxPage)
	s.post(in+"/sandbox/refresh", sandboxPage, refreshSandbox)
	s.post(in+"/sandbox/companies", sandboxPage, setSandbox)
	s.get(in+"/operators", operatorsPage)
	s.post(in+"/operators", operatorsPage, changeRole)
	s.post(in+"/sessions", operatorsPage, endSession)
	for _, apps := range []string{in + "/apps/{app}", "/developers/apps/{app}"} {
		s.appRoutes(apps)
	}
}

// appRoutes are the pages of an app, which operators and developers share.
func (s *Service) appRoutes(at string) {
	s.get(at, healthPage)
	s.post(at+"/rehearsal", healthPage, rehearse)
	s.get(at+"/settings", settingsPage)
	s.post(at+"/secret", settingsPage, rotateSecret)
	s.post(at+"/sandbox", settingsPage, completeSandbox)
	s.post(at+"/redirects", settingsPage, setRedirects)
	s.post(at+"/limits", settingsPage, setLimits)
	s.post(at+"/owners", settingsPage, changeOwners)
	s.get(at+"/installations", installationsPage)
	s.get(at+"/events", eventsPage)
	s.post(at+"/events", eventsPage, changeWebhook)
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

package control

import (
	"maps"
	"net/http"

	"mpr/operator"
)

// Where the admin API is: what belongs to an environment below the first.
const (
	prefix     = "/admin/v1/environments"
	systemPath = "/admin/v1"
)

// route is who may ask for something, and what answers it.
type route struct {
	// least is the role that it takes. Without one nobody may.
	least operator.Role
	// own lets those whose app it is about have it as well, whatever their role.
	own bool
	h   http.Handler
	// logged has the audit log tell of it, though it changes nothing. What isn't a GET always is.
	logged bool
}

// table is the one table of all that the admin API answers to those who have signed in, or have
// its token. Paths that don't begin with systemPath are below an environment.
func (s *Service) table() map[string]route {
	const developer, viewer, runner, admin = operator.Developer, operator.Viewer, operator.Operator, operator.Admin
	in := func(least operator.Role, h handler) route { return route{least: least, h: s.in(h)} }
	plain := func(least operator.Role, h http.HandlerFunc) route { return route{least: least, h: h} }
	system := func(least operator.Role, h systemHandler) route { return route{least: least, h: s.system(h)} }
	table := s.appTable()
	maps.Copy(table, map[string]route{
		"GET " + prefix:                    plain(viewer, s.listEnvironments),
		"GET " + backupPath:                {least: admin, h: http.HandlerFunc(s.backUpDirectory), logged: true},
		"GET " + sessionPath:               system(developer, s.showSession),
		"DELETE " + sessionPath:            system(developer, s.endOwnSession),
		"GET " + sessionsPath:              system(developer, s.listSessions),
		"DELETE " + oneSession:             system(developer, s.endSession),
		"GET " + operatorsPath:             system(viewer, s.listOperators),
		"PUT " + oneOperator:               system(admin, s.grantRole),
		"DELETE " + oneOperator:            system(admin, s.revokeRole),
		"GET " + auditPath:                 system(viewer, s.showAudit),
		"GET " + auditPath + ".csv":        plain(viewer, s.auditCSV),
		"GET " + auditPath + ".jsonl":      plain(viewer, s.auditLines),
		"GET /directory/verify":            plain(viewer, s.verifyDirectory),
		"GET /directory/verification":      in(viewer, s.showVerification),
		"POST /directory/verification":     in(runner, s.startVerification),
		"POST /directory/rebuild":          plain(admin, s.rebuildDirectory),
		"GET /overview":                    in(viewer, s.showOverview),
		"GET /companies":                   in(viewer, s.listCompanies),
		"POST /companies":                  in(runner, s.createCompany),
		"GET /companies/{company}":         in(viewer, s.showCompany),
		"PUT " + companyUsers:              in(runner, s.addUser),
		"PUT " + companySandbox:            in(runner, s.setSandbox),
		"GET " + companyMoves:              in(viewer, s.proveMoves),
		"GET " + monthlyPath:               in(viewer, s.showMonthly),
		"GET " + monthlyPath + "/plan":     in(viewer, s.planMonthly),
		"POST " + monthlyPath + "/refresh": in(runner, s.refreshMonthly),
		"GET /regions":                     in(viewer, s.listRegions),
		"POST /regions":                    in(admin, s.addRegion), // it says where all calls go
		"POST /regions/{region}/drain":     in(runner, drainRegion(true)),
		"POST /regions/{region}/open":      in(runner, drainRegion(false)),
		"POST /users":                      in(runner, s.createUser),
		"POST /users/{login}/disable":      in(runner, s.disableUser), // of somebody with a role: admins alone
		"POST /users/{login}/enable":       in(runner, s.enableUser),
		"PUT /users/{login}/password":      in(runner, s.setPassword),
		"GET /keys":                        in(viewer, s.listKeys),
		"POST /keys/rotate":                in(admin, s.rotateKey),
		"GET /policy":                      in(viewer, s.showPolicy),
		"PUT /policy":                      in(runner, s.setPolicy),
		"GET /moves":                       in(viewer, s.listMoves),
		"POST /moves":                      in(runner, s.startMove),
		"GET /moves/plan":                  in(runner, s.showMovePlan),
		"GET /moves/{move}":                in(viewer, s.showMove),
		"GET /moves/{move}/events":         in(viewer, s.watchMove),
		"POST /moves/{move}/pause":         in(runner, s.steer(s.pause)),
		"POST /moves/{move}/resume":        in(runner, s.steer(s.resume)),
		"POST /moves/{move}/abort":         in(runner, s.steer(s.abort)),
		"GET /ledger":                      in(viewer, s.showLedger),
		"GET /ledger/impact":               in(viewer, s.showImpact),
		"GET /ledger.csv":                  plain(viewer, s.ledgerCSV),
	})
	return table
}

// appTable is the part of the table that is about apps.
func (s *Service) appTable() map[string]route {
	const developer, viewer, runner = operator.Developer, operator.Viewer, operator.Operator
	in := func(least operator.Role, h handler) route { return route{least: least, h: s.in(h)} }
	// own is for the app in the path: whoever has it needs no role.
	own := func(least operator.Role, h handler) route { return route{least: least, own: true, h: s.in(h)} }
	return map[string]route{
		"GET /apps":                          in(viewer, s.listApps),
		"GET /own-apps":                      in(developer, s.listOwnApps),
		"GET /apps/{app}/owners":             own(viewer, s.listOwners),
		"PUT /apps/{app}/owners/{login}":     own(runner, s.addOwner),
		"DELETE /apps/{app}/owners/{login}":  own(runner, s.removeOwner),
		"PUT /apps/{app}/redirect-uris":      own(runner, s.setRedirectURIs),
		"GET /apps/{app}/installations":      own(viewer, s.listInstallations),
		"GET /apps/{app}/compliance":         own(viewer, s.showCompliance),
		"GET /apps/{app}/calls.csv":          {least: viewer, own: true, h: http.HandlerFunc(s.ledgerCSV)},
		"GET /apps/{app}/rehearsal":          own(viewer, s.showRehearsals),
		"PUT /apps/{app}/rehearsal":          own(runner, s.rehearse),
		"DELETE /apps/{app}/rehearsal":       own(runner, s.endRehearsal),
		"POST /apps":                         in(developer, s.createApp),
		"POST /service-accounts":             in(developer, s.createServiceAccount),
		"GET /apps/{app}":                    own(viewer, s.showApp),
		"GET /apps/{app}/calls":              own(viewer, s.listLines),
		"POST /apps/{app}/rotate-secret":     own(runner, s.rotateSecret),
		"PUT " + appInstallation:             in(runner, s.installApp),
		"PUT /apps/{app}/sandbox":            own(runner, s.completeSandbox), // it shows passwords
		"GET " + appLimits:                   own(viewer, s.showLimits),
		"PATCH " + appLimits:                 in(runner, s.setLimits),
		"DELETE " + appLimits:                in(runner, s.resetLimits),
		"GET " + appWebhook:                  own(viewer, s.showWebhook), // its secret from operators on
		"PUT " + appWebhook:                  own(runner, s.setWebhook),
		"DELETE " + appWebhook:               own(runner, s.removeWebhook),
		"POST " + appWebhook + "/rotate":     own(runner, s.rotateWebhook),
		"POST " + appWebhook + "/test":       own(runner, s.testWebhook),
		"GET " + appDeliveries:               own(viewer, s.listDeliveries),
		"POST " + appDeliveries + "/{event}": own(runner, s.redeliver),
	}
}

// Paths that several routes share.
const (
	sessionPath     = systemPath + "/session"
	sessionsPath    = systemPath + "/sessions"
	oneSession      = sessionsPath + "/{session}"
	operatorsPath   = systemPath + "/operators"
	oneOperator     = operatorsPath + "/{login}"
	auditPath       = systemPath + "/audit"
	companyUsers    = "/companies/{company}/users"
	companySandbox  = "/companies/{company}/sandbox"
	companyMoves    = "/companies/{company}/moves"
	monthlyPath     = "/sandboxes/monthly"
	appInstallation = "/apps/{app}/installations/{company}"
	appLimits       = "/apps/{app}/limits"
	appWebhook      = "/apps/{app}/webhook"
	appDeliveries   = appWebhook + "/deliveries"
)

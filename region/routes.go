package region

import (
	"context"
	"net/http"
	"path"
	"regexp"

	"mpr/problem"
)

// versions are the paths under which the API's versions live. The resources are the same
// under each.
var versions = regexp.MustCompile(`^(/rest/v1\.[013]|/vapid)(/|$)`)

// Handler answers API calls, from gateways.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]operation{
		"GET /companies/{company_id}":   s.showCompany,
		"PATCH /companies/{company_id}": companyWide(s.updateCompany),

		"GET /companies/{company_id}/users":              s.listUsers,
		"POST /companies/{company_id}/users":             companyWide(s.createUser),
		"PATCH /companies/{company_id}/users/sync":       companyWide(s.syncUsers),
		"GET /companies/{company_id}/users/{user_id}":    s.showUser,
		"PATCH /companies/{company_id}/users/{user_id}":  companyWide(s.updateUser),
		"DELETE /companies/{company_id}/users/{user_id}": companyWide(s.deleteUser),

		"GET /companies/{company_id}/app_installations":             s.listInstallations,
		"GET /companies/{company_id}/app_installations/{app_id}":    s.showInstallation,
		"PATCH /companies/{company_id}/app_installations/{app_id}":  s.updateInstallation,
		"DELETE /companies/{company_id}/app_installations/{app_id}": s.deleteInstallation,

		"GET /company_base_url": s.companyBaseURL,

		"GET /projects":                        s.listProjects,
		"GET /companies/{company_id}/projects": s.listProjects,
		"POST /projects":                       s.createProject,
		"PATCH /projects/sync":                 s.syncProjects,
		"GET /projects/{project_id}":           s.showProject,
		"PATCH /projects/{project_id}":         s.updateProject,
		"DELETE /projects/{project_id}":        s.deleteProject,

		"GET /projects/{project_id}/users":                             s.listProjectUsers,
		"GET /projects/{project_id}/users/{user_id}":                   s.showProjectUser,
		"POST /projects/{project_id}/users/{user_id}/actions/add":      s.addProjectUser,
		"POST /projects/{project_id}/users/{user_id}/actions/remove":   s.deleteProjectUser,
		"DELETE /projects/{project_id}/users/{user_id}/actions/remove": s.deleteProjectUser,
		"DELETE /projects/{project_id}/users/{user_id}":                s.deleteProjectUser,

		"GET /projects/{project_id}/rfis":             s.listRFIs,
		"POST /projects/{project_id}/rfis":            s.createRFI,
		"PATCH /projects/{project_id}/rfis/sync":      s.syncRFIs,
		"GET /projects/{project_id}/rfis/{rfi_id}":    s.showRFI,
		"PATCH /projects/{project_id}/rfis/{rfi_id}":  s.updateRFI,
		"DELETE /projects/{project_id}/rfis/{rfi_id}": s.deleteRFI,
	} {
		mux.Handle(pattern, s.answer(h))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(QuestionHeader) != "" {
			s.answerQuestion(w, r)
			return
		}
		version := versions.FindStringSubmatch(r.URL.Path)
		// Only the plain spelling of a path is routed: the mux would redirect others, and
		// take an escaped slash for a slash.
		if version == nil || path.Clean(r.URL.Path) != r.URL.Path || r.URL.RawPath != "" {
			s.answer(nothingHere).ServeHTTP(w, r)
			return
		}
		below, u := *r, *r.URL
		u.Path = r.URL.Path[len(version[1]):]
		below.URL = &u
		route(mux, s.answer, w, &below)
	})
}

func nothingHere(context.Context, *call) (int, any, error) { return 0, nil, errNothingHere }

// route serves what the mux knows. Unknown paths and wrong methods it answers in our form
// instead of the mux's plain text, and after the checks that all calls have in common: of
// a company that went to a newer region than this one, that is what the gateway must
// hear, and not that its path is unknown.
func route(mux *http.ServeMux, answer func(operation) http.Handler, w http.ResponseWriter, r *http.Request) {
	h, pattern := mux.Handler(r)
	if pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	answer(func(context.Context, *call) (int, any, error) { return 0, nil, problem.Unrouted(w, r, h) }).ServeHTTP(w, r)
}

package region

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"

	"mpr/company"
	"mpr/problem"
	"mpr/token"
)

// QuestionHeader turns a call into a question about it, which has no effect. Only gateways
// can send it.
const QuestionHeader = "Mpr-Question"

// answerQuestion answers a gateway's question with a status and headers.
func (s *Service) answerQuestion(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Header.Get(QuestionHeader) {
	case "access":
		_, err = s.admit(w, r)
	case "project":
		err = s.ownerOfProject(w, r)
	default:
		err = problem.New(problem.BadRequest, "This region knows no such question.")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

var projectsPath = regexp.MustCompile(`^/(?:rest/v[0-9.]+|vapid)/projects/([0-9]+)(?:/|$)`)

// ownerOfProject tells whose the project in the path is, in the company header. It says
// nothing of what the caller may see: the call itself comes next, with that company, and
// is checked as any other.
func (s *Service) ownerOfProject(w http.ResponseWriter, r *http.Request) error {
	raw, err := token.Bearer(r.Header.Values("Authorization"))
	if err != nil {
		return err
	}
	if _, err := s.Verifier.Verify(raw); err != nil {
		return err
	}
	match := projectsPath.FindStringSubmatch(path.Clean(r.URL.Path))
	if match == nil {
		return errNothingHere
	}
	project, err := company.ParseID(match[1])
	if err != nil {
		return errNothingHere
	}
	var owner int64
	err = s.DB.Read().QueryRowContext(r.Context(), `SELECT company_id FROM projects WHERE project_id = $1`, int64(project)).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return errNothingHere
	}
	if err != nil {
		return fmt.Errorf("find the company of a project: %w", err)
	}
	w.Header().Set(s.Policy.CompanyHeader, company.ID(owner).String())
	return nil
}

package login

import "net/http"

// changes shows the developers of apps what they have to change, and until when. The
// legacy door's answers link to it.
func (s *Service) changes(w http.ResponseWriter, _ *http.Request) error {
	policy := s.InForce()
	last := policy.LegacySunset.Format("January 2, 2006")
	s.render(w, http.StatusOK, view{
		Page: "changes", Title: "Required changes", Changes: policy.RequiredChanges(),
		Live: policy.RegionsLive.Format("January 2, 2006"), Sunset: last,
		Over: policy.Gone(s.RulesNow()), Example: policy.Example(),
	})
	return nil
}

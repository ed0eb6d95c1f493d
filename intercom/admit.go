package intercom

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"mpr/problem"
)

// Admit wants a request to show the secret, and otherwise answers [problem.Unauthorized] and
// sets the challenge that belongs to it (RFC 9110 section 15.5.2).
func Admit(w http.ResponseWriter, r *http.Request, secret string) error {
	if Shows(r, secret) {
		return nil
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	w.Header().Set("Connection", "close") // whoever shows no secret isn't waited for: the body stays unread
	return problem.New(problem.Unauthorized, "This needs the internal secret.")
}

// Shows says whether a request shows the secret, as a bearer token (RFC 6750 section 2.1).
// It compares digests: the time that it takes tells neither content nor length. Nothing
// shows an empty secret.
func Shows(r *http.Request, secret string) bool {
	values := r.Header.Values("Authorization")
	if len(values) != 1 || secret == "" {
		return false
	}
	scheme, shown, _ := strings.Cut(values[0], " ")
	got, want := sha256.Sum256([]byte(strings.TrimLeft(shown, " "))), sha256.Sum256([]byte(secret))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

package token

import (
	"time"

	"mpr/company"
	"mpr/rules"
)

// Claims are the facts that an access token carries.
type Claims struct {
	// Issuer names the environment's login service ("iss").
	Issuer string
	// Subject is the id of the user or of the service account ("sub").
	Subject int64
	// ClientID is the app's client id ("client_id", RFC 9068 section 2.2).
	ClientID string
	// App is the id of the app; installations name it.
	App int64
	// Kind tells whom the token speaks for.
	Kind rules.TokenKind
	// Company is the only company of a traditional service account; 0 otherwise.
	Company company.ID
	// Grant names what the token was granted by: an authorization with all its
	// refreshes, or one client_credentials call. Revocations name grants.
	Grant string
	// ID is unique to the token ("jti").
	ID string
	// IssuedAt and Expires bound the token's life, in whole seconds.
	IssuedAt, Expires time.Time
}

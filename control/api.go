package control

import (
	"time"

	"mpr/company"
)

// EnvironmentList answers GET /admin/v1/environments.
type EnvironmentList struct {
	Environments []EnvironmentInfo `json:"environments"`
}

// EnvironmentInfo is an environment.
type EnvironmentInfo struct {
	Name     string `json:"name"`
	LoginURL string `json:"login_url"`
}

// NewCompany asks for a company.
type NewCompany struct {
	Name string `json:"name"`
	// Region is where the company is to live; the default region where it is empty.
	Region company.Region `json:"region,omitempty"`
	// Onboarded is the UTC day on which the company became a customer, such as
	// 2019-01-01; today where it is empty. The rules of the legacy door depend on it.
	Onboarded string `json:"onboarded,omitempty"`
	// IdempotencyKey makes repeating a request safe: the same key is the same company, for a day. With
	// other content it is [problem.KeyReused].
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// ID is for regions that a foreign service stands in for, which gives ids itself:
	// the company is there already, and only its placement is made.
	ID company.ID `json:"id,omitempty"`
}

// Company is a company and where it lives.
type Company struct {
	ID        company.ID     `json:"id"`
	Name      string         `json:"name"`
	Region    company.Region `json:"region"`
	Epoch     company.Epoch  `json:"epoch"`
	Onboarded string         `json:"onboarded"`
}

// CompanyDetails are all that the directory and the region say of a company.
type CompanyDetails struct {
	Company
	// Fence is what the region notes of the company.
	Fence *Fence `json:"fence,omitempty"`
	// Unknown says why the region wasn't asked, or didn't answer.
	Unknown string `json:"unknown,omitempty"`
	// History is where the company lived, the newest first.
	History []Stay `json:"history"`
}

// Fence is a region's own note of a company: it owns it at that epoch, has frozen it,
// or has seen it go.
type Fence struct {
	State      string         `json:"state"`
	Epoch      company.Epoch  `json:"epoch"`
	GoneRegion company.Region `json:"gone_region,omitempty"`
	GoneEpoch  company.Epoch  `json:"gone_epoch,omitempty"`
}

// CompanyPage is a part of the list of companies.
type CompanyPage struct {
	Companies []Company `json:"companies"`
	// Next, where it isn't 0, is the value of "after" for the next part. A part may be
	// short, or empty, and not be the last one.
	Next company.ID `json:"next,omitempty"`
}

// NewRegion asks for a region, or changes its addresses.
type NewRegion struct {
	Code   company.Region `json:"code"`
	Number int            `json:"number"`
	// Upstreams are the base URLs that answer API calls.
	Upstreams []string `json:"upstreams"`
	// HealthPath is what gateways GET to see whether an upstream is well; empty: they only
	// connect to it.
	HealthPath string `json:"health_path,omitempty"`
	// Internal is the base URL of the internal listener; empty where a foreign service
	// stands in for the region.
	Internal string `json:"internal,omitempty"`
}

// RegionList answers GET regions.
type RegionList struct {
	Regions []company.RegionInfo `json:"regions"`
}

// NewUser asks for a user.
type NewUser struct {
	Login    string `json:"login"`
	Name     string `json:"name"`
	Password string `json:"password,omitempty"`
	// Companies are those that the user joins.
	Companies []company.ID `json:"companies,omitempty"`
}

// User is a user.
type User struct {
	ID        int64        `json:"id"`
	Login     string       `json:"login"`
	Name      string       `json:"name"`
	Companies []company.ID `json:"companies,omitempty"`
	// Listed says that List Companies shows what the request has changed. Otherwise it
	// soon will.
	Listed bool `json:"listed,omitempty"`
}

// Member names the user who joins a company.
type Member struct {
	Login string `json:"login"`
}

// The kinds of apps.
const (
	KindWeb              = "web"
	KindInstalled        = "installed"
	KindDeveloperManaged = "developer_managed"
	KindTraditional      = "traditional"
)

// NewApp asks for an app: a web app with a secret, or an installed one (on desktops
// and phones) that can keep none.
type NewApp struct {
	Name         string       `json:"name"`
	Kind         string       `json:"kind"`
	RedirectURIs []string     `json:"redirect_uris"`
	Companies    []company.ID `json:"companies,omitempty"`
	// IdempotencyKey makes repeating a request safe: the same key is the same app, whose
	// secret only the first answer shows.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Own has it belong to whoever asks, as what developers register always does.
	Own bool `json:"own,omitempty"`
}

// NewServiceAccount asks for a service account: a traditional one of one company, or a
// developer-managed one, which may be installed in companies.
type NewServiceAccount struct {
	Name      string       `json:"name"`
	Kind      string       `json:"kind"`
	Company   company.ID   `json:"company,omitempty"`
	Companies []company.ID `json:"companies,omitempty"`
	// IdempotencyKey makes repeating a request safe: the same key is the same account, whose
	// secret only the first answer shows.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Own has it belong to whoever asks, as what developers register always does.
	Own bool `json:"own,omitempty"`
}

// App is an app or a service account.
type App struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	ClientID string `json:"client_id"`
	// ClientSecret is shown once, in the answer that made it.
	ClientSecret string `json:"client_secret,omitempty"`
	// SecretID names the secret that is in force, and gives nothing of it away; OldSecretUntil is
	// until when the one before is as good.
	SecretID       string     `json:"secret_id,omitempty"`
	OldSecretUntil time.Time  `json:"old_secret_until,omitzero"`
	RedirectURIs   []string   `json:"redirect_uris"`
	Company        company.ID `json:"company,omitempty"`
	// Companies are those in which the request has installed the app.
	Companies []company.ID `json:"companies,omitempty"`
	Listed    bool         `json:"listed,omitempty"`
	// Sandbox is what the app has in the development sandbox, where there is one.
	Sandbox *Sandbox `json:"sandbox,omitempty"`
	// State is how it stands: compliant, at risk or breaking; "" where that isn't known.
	State string `json:"state,omitempty"`
	// Owned says that it belongs to whoever has registered it.
	Owned bool `json:"owned,omitempty"`
}

// Sandbox is an app's part of the development sandbox: credentials of its own and a
// company with seed data. In lists it says no more than the client id, and which secret is in force.
type Sandbox struct {
	Environment string `json:"environment"`
	LoginURL    string `json:"login_url,omitempty"`
	APIURL      string `json:"api_url,omitempty"`
	ClientID    string `json:"client_id,omitempty"`
	// SecretID names the secret that is in force, and gives nothing of it away.
	SecretID string `json:"secret_id,omitempty"`
	// ClientSecret is shown once, in the answer that made it.
	ClientSecret string        `json:"client_secret,omitempty"`
	Company      company.ID    `json:"company,omitempty"`
	Users        []SandboxUser `json:"users,omitempty"`
	// Incomplete says why the sandbox could not be made, or not all of it. A PUT to the
	// app's sandbox completes it.
	Incomplete string `json:"incomplete,omitempty"`
}

// SandboxUser is a user who may sign in at the development sandbox.
type SandboxUser struct {
	Login    string `json:"login"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// AppPage is a part of the list of apps.
type AppPage struct {
	Apps  []App `json:"apps"`
	Total int   `json:"total"`
	// Next, where it isn't 0, is the value of "after" for the next part of a search, which has no
	// total.
	Next int64 `json:"next,omitempty"`
}

// SecretRotation asks for a new client secret.
type SecretRotation struct {
	// OverlapSeconds is how long the old secret stays valid beside the new one.
	OverlapSeconds int64 `json:"overlap_seconds"`
	// SecretID is the secret that was seen in force: another one isn't replaced, so that a request
	// which is sent twice doesn't end the secret that the first one was to keep. "" replaces any.
	SecretID string `json:"secret_id,omitempty"`
}

// NewInstallation asks to connect an app to a company.
type NewInstallation struct {
	// PermittedProjects limits a developer-managed service account to these projects;
	// nil permits all.
	PermittedProjects *[]int64 `json:"permitted_projects,omitempty"`
}

// RedirectURIs are where an app's users are sent back to.
type RedirectURIs struct {
	RedirectURIs []string `json:"redirect_uris"`
}

// InstalledIn is a company in which an app is installed.
type InstalledIn struct {
	Company company.ID     `json:"company"`
	Name    string         `json:"name"`
	Region  company.Region `json:"region"`
}

// InstallationPage is a part of the list of companies in which an app is installed.
type InstallationPage struct {
	ClientID      string        `json:"client_id"`
	Installations []InstalledIn `json:"installations"`
	Total         int           `json:"total"`
}

// Installation is an app that is connected to a company.
type Installation struct {
	App     int64      `json:"app"`
	Company company.ID `json:"company"`
	Listed  bool       `json:"listed,omitempty"`
}

// Key is a signing key; never its private part.
type Key struct {
	KID       string    `json:"kid"`
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created"`
	SignsFrom time.Time `json:"signs_from"`
	// RetiredAt is when the last token that it signed has expired; the zero time while
	// no other key follows.
	RetiredAt time.Time `json:"retired_at,omitzero"`
}

// KeyList answers GET keys.
type KeyList struct {
	Keys []Key `json:"keys"`
}

// RotatedKey is the key that signs next.
type RotatedKey struct {
	KID       string    `json:"kid"`
	SignsFrom time.Time `json:"signs_from"`
}

package problem

import (
	"errors"
	"fmt"
	"time"
)

// Code names a kind of error for programs. Codes are part of the API: they are added,
// never changed.
type Code string

// Codes of refusals by the gateway and the regions.
const (
	MissingCompanyHeader  Code = "missing_company_header"
	InvalidCompanyHeader  Code = "invalid_company_header"
	CompanyMismatch       Code = "company_mismatch"
	CompanyForbidden      Code = "company_forbidden"
	AppNotConnected       Code = "app_not_connected"
	LegacySunset          Code = "legacy_sunset"
	LegacyForbidden       Code = "legacy_forbidden"
	LegacyBrownout        Code = "legacy_brownout"
	InvalidToken          Code = "invalid_token"
	MissingToken          Code = "missing_token"
	WrongEnvironment      Code = "wrong_environment"
	MoverReplaced         Code = "mover_replaced"
	LogShortened          Code = "log_shortened"
	WrongRegion           Code = "wrong_region"
	RegionUnavailable     Code = "region_unavailable"
	CompanyMoving         Code = "company_moving"
	RegionTimeout         Code = "region_timeout"
	RegionDraining        Code = "region_draining"
	BadUpstreamAnswer     Code = "bad_upstream_answer"
	IdentityUnavailable   Code = "identity_unavailable"
	DirectoryUnavailable  Code = "directory_unavailable"
	HeaderTooLarge        Code = "header_too_large"
	BodyTooLarge          Code = "body_too_large"
	BodyTimeout           Code = "body_timeout"
	UnknownHost           Code = "unknown_host"
	NotFound              Code = "not_found"
	MethodNotAllowed      Code = "method_not_allowed"
	BadRequest            Code = "bad_request"
	NotSupported          Code = "not_supported"
	MalformedJSON         Code = "malformed_json"
	UnsupportedMediaType  Code = "unsupported_media_type"
	Invalid               Code = "invalid"
	Conflict              Code = "conflict"
	TooManyAttempts       Code = "too_many_attempts"
	RateLimited           Code = "rate_limited"
	Unauthorized          Code = "unauthorized"
	Forbidden             Code = "forbidden"
	Internal              Code = "internal"
	NotReady              Code = "not_ready"
	InsufficientStorage   Code = "insufficient_storage"
	StoreUnavailable      Code = "store_unavailable"
	EpochRefused          Code = "epoch_refused"
	ReplicaUnavailable    Code = "replica_unavailable"
	RequestTargetRejected Code = "request_target_rejected"
	KeyReused             Code = "idempotency_key_reused"
)

// Codes of the OAuth endpoints, by their RFC names (RFC 6749 sections 4.1.2.1 and
// 5.2, RFC 7009 section 2.2.1).
const (
	InvalidRequest          Code = "invalid_request"
	InvalidClient           Code = "invalid_client"
	InvalidGrant            Code = "invalid_grant"
	UnauthorizedClient      Code = "unauthorized_client"
	UnsupportedGrantType    Code = "unsupported_grant_type"
	UnsupportedResponseType Code = "unsupported_response_type"
	InvalidScope            Code = "invalid_scope"
	AccessDenied            Code = "access_denied"
	ServerError             Code = "server_error"
	TemporarilyUnavailable  Code = "temporarily_unavailable"
)

// statuses is the one table from code to HTTP answer.
var statuses = map[Code]int{
	MissingCompanyHeader:  400,
	InvalidCompanyHeader:  400,
	CompanyMismatch:       400,
	CompanyForbidden:      403,
	AppNotConnected:       403,
	LegacySunset:          410,
	LegacyForbidden:       403,
	LegacyBrownout:        503,
	InvalidToken:          401,
	MissingToken:          401,
	WrongEnvironment:      401,
	MoverReplaced:         409,
	LogShortened:          410,
	WrongRegion:           421, // RFC 9110 section 15.5.20, Misdirected Request
	EpochRefused:          421,
	RegionUnavailable:     503,
	CompanyMoving:         503,
	RegionTimeout:         504,
	RegionDraining:        409,
	BadUpstreamAnswer:     502,
	IdentityUnavailable:   503,
	DirectoryUnavailable:  503,
	ReplicaUnavailable:    503,
	NotReady:              503,
	StoreUnavailable:      503,
	InsufficientStorage:   507, // RFC 4918 section 11.5, Insufficient Storage
	HeaderTooLarge:        431,
	BodyTooLarge:          413,
	BodyTimeout:           408,
	UnknownHost:           421,
	RequestTargetRejected: 400,
	KeyReused:             409,
	NotFound:              404,
	MethodNotAllowed:      405,
	BadRequest:            400,
	NotSupported:          501, // RFC 9112 section 6.1 asks for it where a transfer coding isn't known
	MalformedJSON:         400,
	UnsupportedMediaType:  415,
	Invalid:               422,
	Conflict:              409,
	TooManyAttempts:       429,
	RateLimited:           429,
	Unauthorized:          401,
	Forbidden:             403,
	Internal:              500,

	InvalidRequest:          400,
	InvalidClient:           401,
	InvalidGrant:            400,
	UnauthorizedClient:      400,
	UnsupportedGrantType:    400,
	UnsupportedResponseType: 400,
	InvalidScope:            400,
	AccessDenied:            403,
	ServerError:             500,
	TemporarilyUnavailable:  503,
}

// Status is the HTTP status of the code; 500 for a code that the table lacks.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return 500
}

// Problem is an error that a user may see.
type Problem struct {
	Code Code
	// Message says what happened and what to do about it.
	Message string
	// Fields holds, per field of the request's object, what is wrong with it. It is
	// answered as "errors", as clients of such APIs expect of a 422.
	Fields map[string][]string
	// Region is the code of the region that the call was for, where that helps the one
	// who asks. It is answered as "region".
	Region string
	// RetryAfter, where it is not zero, is answered as Retry-After in whole seconds,
	// rounded up.
	RetryAfter time.Duration
	// Err is the cause. It goes to the log, never to the client.
	Err error
	// RequestID is that of the request that another process has refused, for its log. Our own
	// answers carry their own.
	RequestID string
}

// New makes a problem whose message is formatted as by fmt.Sprintf. What goes into the
// message reaches the client.
func New(code Code, format string, args ...any) *Problem {
	return &Problem{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns a copy that carries its cause for the log.
func (p *Problem) Because(err error) *Problem {
	q := *p
	q.Err = err
	return &q
}

// In returns a copy that names the region that the call was for.
func (p *Problem) In(region string) *Problem {
	q := *p
	q.Region = region
	return &q
}

// After returns a copy that asks the client to wait that long before it tries again.
func (p *Problem) After(d time.Duration) *Problem {
	q := *p
	q.RetryAfter = d
	return &q
}

func (p *Problem) Error() string {
	if p.Err != nil {
		return fmt.Sprintf("%s: %s: %v", p.Code, p.Message, p.Err)
	}
	return fmt.Sprintf("%s: %s", p.Code, p.Message)
}

func (p *Problem) Unwrap() error { return p.Err }

// Is makes errors.Is(err, problem.New(code, "")) compare codes.
func (p *Problem) Is(target error) bool {
	q, ok := target.(*Problem)
	return ok && q.Code == p.Code
}

// From finds the problem in err's chain; any other error becomes [Internal].
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return &Problem{
		Code:    Internal,
		Message: "Something went wrong on our side. Try again later; if it goes on, tell us the request id.",
		Err:     err,
	}
}

package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"

	"mpr/gateway/http1"
	"mpr/problem"
	"mpr/rules"
)

// Headers between the gateway and its upstreams.
const (
	epochHeader  = "Mpr-Epoch"
	regionHeader = "Mpr-Region"
	// LeavingHeader of an answer, with any value, says that the upstream is about to stop.
	LeavingHeader = "Mpr-Leaving"
	ourPrefix     = "mpr-"
)

// hopByHop says whether a header (canonical name) is about the connection and not about
// the message (RFC 9110 section 7.6.1). Such headers are never passed on.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Transfer-Encoding", "Upgrade", "Trailer",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info":
		return true
	}
	return false
}

// reserved says whether a header is one that the gateway sets itself, so that the client's is
// dropped.
func reserved(name, companyHeader string) bool {
	return hasPrefix(name, ourPrefix) || hasPrefix(name, "x-forwarded-") || strings.EqualFold(name, "forwarded") ||
		strings.EqualFold(name, problem.RequestIDHeader) || strings.EqualFold(name, "via") || strings.EqualFold(name, companyHeader)
}

// hasPrefix says whether a name begins with a prefix, in capitals or not.
func hasPrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// dropped says whether a client's header (canonical name) must not reach an upstream.
func dropped(name, companyHeader string) bool {
	if hopByHop(name) {
		return true
	}
	plain := true
	for i := range len(name) {
		if c := name[i]; c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			plain = false
			break
		}
	}
	if plain {
		switch name[0] {
		case 'M', 'X', 'F', 'V', companyHeader[0]:
			return reserved(name, companyHeader)
		}
		return false
	}
	// Servers that hand headers to programs as variables (RFC 3875 section 4.1.18) can't
	// tell Procore_Company_Id from Procore-Company-Id. Another spelling of a header that
	// means something to us or to the framing never goes through.
	name = strings.Map(func(c rune) rune {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return '-'
		}
		return c
	}, name)
	switch canonical := textproto.CanonicalMIMEHeaderKey(name); canonical {
	case "Authorization", "Host", "Content-Length", "Cookie":
		return true
	default:
		return hopByHop(canonical) || reserved(name, companyHeader)
	}
}

// connectionOptions are the header names that Connection lists, in canonical form; nil
// where it lists none that matters.
func connectionOptions(values []string) []string {
	var names []string
	for _, v := range values {
		for option := range strings.SplitSeq(v, ",") {
			switch option = strings.TrimSpace(option); {
			case option == "", strings.EqualFold(option, "close"), strings.EqualFold(option, "keep-alive"):
			default:
				names = append(names, textproto.CanonicalMIMEHeaderKey(option))
			}
		}
	}
	return names
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// upgradeTo is the protocol that a request asks to change to, where we let it: WebSocket
// (RFC 6455) only. RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header
// field". A change to HTTP/2 (h2c) would let calls pass by that nobody has checked.
func upgradeTo(r *http.Request) string {
	if r.ProtoMajor == 1 && r.ProtoMinor >= 1 && hasToken(r.Header["Connection"], "upgrade") && hasToken(r.Header["Upgrade"], "websocket") {
		return "websocket"
	}
	return ""
}

// forwardedHeader makes the header that goes upstream, as lines: the client's, without what is
// about the connection, and with what only we may say. decision is nil for a request that
// the rules have nothing to do with.
func (c *call) forwardedHeader(decision *rules.Decision) []byte {
	r, companyHeader := c.r, textproto.CanonicalMIMEHeaderKey(c.policy.CompanyHeader)
	listed := connectionOptions(r.Header["Connection"])
	traced := c.traced()
	b := c.room()
	for name, values := range r.Header {
		// RFC 9110 section 7.6.1: a sender must not list a header in Connection that is
		// meant for all recipients. The access token is: removing it would turn the call
		// into one without a caller.
		if dropped(name, companyHeader) || name != "Authorization" && contains(listed, name) || traced[name] != nil ||
			name == "Content-Length" { // which is made anew
			continue
		}
		for _, v := range values {
			b = http1.AppendField(b, name, v)
		}
	}
	if hasToken(r.Header["Te"], "trailers") {
		b = http1.AppendField(b, "Te", "trailers")
	}
	if c.upgrade != "" {
		b = http1.AppendField(b, "Connection", "Upgrade")
		b = http1.AppendField(b, "Upgrade", c.upgrade)
	}
	if decision != nil && decision.Company != 0 {
		b = http1.AppendNumber(b, companyHeader, int64(decision.Company))
		b = http1.AppendNumber(b, epochHeader, int64(decision.Placement.Epoch))
	}
	b = http1.AppendField(b, problem.RequestIDHeader, c.w.Header().Get(problem.RequestIDHeader))
	if r.Host != "" {
		b = http1.AppendField(b, "X-Forwarded-Host", r.Host)
	}
	from, proto := c.origin()
	b = http1.AppendField(b, "X-Forwarded-For", from)
	b = http1.AppendField(b, "X-Forwarded-Proto", proto)
	// RFC 9110 section 7.6.3: a gateway "MUST send an appropriate Via header field in each
	// inbound request message".
	b = http1.AppendField(b, "Via", via(r))
	for name, values := range traced {
		b = http1.AppendField(b, name, values[0])
	}
	return b
}

// traced is what the header says of the trace; nil where nothing is traced.
func (c *call) traced() http.Header {
	if !c.observed().Traces() {
		return nil
	}
	h := http.Header{}
	c.observed().Inject(&c.ctx, h)
	return h
}

// headerRoom are buffers that headers are made in.
var headerRoom = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// room is a buffer for a header. The one that a call takes from the pool goes back at its end;
// further ones, which few calls need, don't: what was sent before may still be under way.
func (c *call) room() []byte {
	if c.pooled != nil {
		return nil
	}
	c.pooled, _ = headerRoom.Get().(*[]byte)
	return (*c.pooled)[:0]
}

func via(r *http.Request) string {
	us := "1.1 mpr"
	if r.ProtoMajor == 2 {
		us = "2.0 mpr"
	}
	if before := r.Header["Via"]; len(before) > 0 {
		return strings.Join(before, ", ") + ", " + us
	}
	return us
}

// origin says who called, and over which scheme. Proxies ahead of us are believed only
// where the operator named them.
func (c *call) origin() (from, proto string) {
	proto = "http"
	if c.r.TLS != nil {
		proto = "https"
	}
	from, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		from = "unknown" // not TCP
	}
	if !c.service.trusts(from) {
		return from, proto
	}
	if p := c.r.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		proto = p
	}
	if before := c.r.Header["X-Forwarded-For"]; len(before) > 0 {
		from = strings.Join(before, ", ") + ", " + from
	}
	return from, proto
}

func (s *Service) trusts(address string) bool {
	if len(s.limits.ForwardedFrom) == 0 {
		return false
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, network := range s.limits.ForwardedFrom {
		if network.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

// copyAnswerHeader copies the header of an upstream's answer, without what is about the
// connection or between us and the upstream.
func copyAnswerHeader(dst, src http.Header) {
	listed := connectionOptions(src["Connection"])
	for name, values := range src {
		if hopByHop(name) || contains(listed, name) || ourAnswerHeader(name) {
			continue
		}
		dst[name] = values
	}
}

// ourAnswerHeader says whether an answer's header (canonical name) is not the upstream's
// to send to clients.
func ourAnswerHeader(name string) bool {
	return name == problem.RequestIDHeader ||
		name == "Alt-Svc" || // RFC 7838: it would lead clients past this door
		len(name) > len(ourPrefix) && strings.EqualFold(name[:len(ourPrefix)], ourPrefix)
}

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxURL bounds a URL, in bytes.
const maxURL = 2000

// plainHost is a host name as it goes over the wire, or an address. Other scripts have a form
// of it in ASCII, which whoever sets the URL is asked for.
var plainHost = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\.?$`)

// CheckURL says why events can't be sent to a URL; nil if they can. Private networks, and plain
// HTTP, are for tests on a laptop only (webhooks.allow_private). What a name leads to is
// looked at when it is called, each time.
func CheckURL(text string, private bool) error {
	if len(text) > maxURL || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '\\' || r >= 0x7f }) {
		return fmt.Errorf("must be plain ASCII, without blanks, of at most %d bytes", maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return errors.New("must be a URL such as https://app.example/webhook")
	case u.Scheme == "http" && !private:
		return errors.New("must start with https:// (http:// only where webhooks.allow_private is set, for tests)")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must start with https://")
	case u.User != nil:
		return errors.New("must not have a user name or password in it: events are signed")
	case strings.Contains(text, "#"):
		return errors.New("must not have a fragment (#...)")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("must have a port from 1 to 65535, or none")
		}
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil {
		return checkAddress(address, private)
	}
	if !plainHost.MatchString(u.Hostname()) {
		return errors.New("must name a host in plain ASCII")
	}
	return nil
}

// ErrPrivate says that an address isn't one of the public internet.
var ErrPrivate = errors.New("isn't an address of the public internet, and others aren't called")

// special are networks that have an address of somebody else within them, or lead nowhere: what
// the standard library doesn't count as loopback, private, link-local or multicast.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// checkAddress refuses addresses within networks that are nobody's business.
func checkAddress(a netip.Addr, private bool) error {
	if a.Zone() != "" {
		return fmt.Errorf("%s %w", a, ErrPrivate)
	}
	a = a.Unmap()
	public := a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
	if private || public {
		return nil
	}
	return fmt.Errorf("%s %w", a, ErrPrivate)
}

// dialer connects to addresses of the public internet. It looks at the address itself that is
// connected to: what a name led to a moment ago says nothing.
func dialer(private bool) *net.Dialer {
	return &net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%s %w", address, ErrPrivate)
		}
		return checkAddress(to.Addr(), private)
	}}
}

package login

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// peer names whom a request counts for: the network address that it came from. Of IPv6 it
// is the /64, since whoever has one address there has all of them.
func (s *Service) peer(r *http.Request) string {
	addr, ok := address(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr
	}
	// Proxies append to the header, so it is read from its end; what stands left of the
	// first address that isn't a proxy of ours may be a client's invention.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.believed(addr); i-- {
		hop, ok := address(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		addr = hop
	}
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}

// believed says whether the address is a proxy of ours.
func (s *Service) believed(addr netip.Addr) bool {
	for _, network := range s.ForwardedFrom {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// address reads an address with or without a port.
func address(text string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}

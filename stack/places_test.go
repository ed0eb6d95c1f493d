package stack

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mpr/config"
	"mpr/test/loopback"
)

// The directory names one internal address of a region of several processes. Where nobody is there another process is
// asked; an address that isn't that of such a region stands for itself.
func TestAnotherProcessOfTheRegionIsAsked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the second") }))
	defer server.Close()
	away, there := loopback.FreeAddresses(t, 2), server.Listener.Addr().String()
	c := config.Default(0, t.TempDir())
	region := &c.Environments[0].Regions[2]
	region.Processes = []config.Process{{Name: "a", Listen: "127.0.0.1:1", Internal: away[0]}, {Name: "b", Listen: "127.0.0.1:2", Internal: there}}
	s, err := newSystem(c)
	must(t, err)
	defer func() { must(t, s.close()) }()
	transport := s.newTransport()
	asked := func(address string) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/internal/status", nil)
		must(t, err)
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	for _, address := range []string{away[0], there} {
		if got, err := asked(address); got != "the second" || err != nil {
			t.Errorf("at %s there is %q, %v", address, got, err)
		}
	}
	if got, err := asked(away[1]); err == nil {
		t.Errorf("at the address of nobody there is %q", got)
	}
	region.Processes[1].Internal = away[1]
	if _, err := asked(away[1]); err == nil || !strings.Contains(err.Error(), away[0]) || !strings.Contains(err.Error(), away[1]) {
		t.Errorf("where none can be reached it says %v", err)
	}
}

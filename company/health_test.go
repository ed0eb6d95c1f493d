package company

import (
	"strings"
	"testing"
)

func TestIsHealthPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/readyz": true, "/": true, "/health?full=1": true,
		"": false, "readyz": false, "http://x/": false, "/a b": false, "/a\r\nX: y": false, "/a#b": false, `/a\b`: false, "/ä": false, "/" + strings.Repeat("a", 256): false,
	} {
		if got := IsHealthPath(path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}

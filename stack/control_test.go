package stack

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/config"
	"mpr/directory"
)

// Where nobody has set a limit yet there is a bucket for limits all the same: gateways would ask for
// it for ever.
func TestControlMakesTheLimits(t *testing.T) {
	cfg := config.Default(0, t.TempDir())
	s, err := newSystem(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	ready, err := s.startObserving(t.Context(), "test")
	must(t, err)
	ready()
	must(t, s.serveDirectory(""))
	must(t, s.startControl(t.Context()))
	js, err := jetstream.New(s.nats)
	must(t, err)
	for _, e := range cfg.Environments {
		if _, err := js.KeyValue(t.Context(), directory.BucketName("limits", e.Name)); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

package stack

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/directory"
)

// Where nobody has set a limit yet there is a bucket for limits all the same: gateways would ask for
// it for ever.
func TestControlMakesTheLimits(t *testing.T) {
	s := withDirectory(t)
	must(t, s.startControl(t.Context()))
	js, err := jetstream.New(s.nats)
	must(t, err)
	for _, e := range s.config.Environments {
		if _, err := js.KeyValue(t.Context(), directory.BucketName("limits", e.Name)); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

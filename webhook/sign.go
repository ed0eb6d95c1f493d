package webhook

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of the Standard Webhooks specification.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// secretPrefix tells people and tools what the secret is for.
const secretPrefix = "whsec_"

// key is the key of a generation of an app's secret. It is derived from the secret that our
// processes share and not made up, so that it can be told again and no database has it.
func key(internal, environment, clientID string, generation int64) ([]byte, error) {
	k, err := hkdf.Key(sha256.New, []byte(internal), nil, "secret of a webhook\n"+environment+"\n"+clientID+"\n"+strconv.FormatInt(generation, 10), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the secret of a webhook: %w", err)
	}
	return k, nil
}

// SecretOf is the secret that an app verifies signatures with.
func SecretOf(internal, environment, clientID string, generation int64) (string, error) {
	k, err := key(internal, environment, clientID, generation)
	return secretPrefix + base64.StdEncoding.EncodeToString(k), err
}

// signature is what an event is signed with: its id, the time of this attempt, its body.
func signature(key []byte, id string, at int64, body string) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(id + "." + strconv.FormatInt(at, 10) + "." + body)) // a hash takes all
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sign adds the headers by which the app knows the event, and us. While the secret before
// still holds there are two signatures: either is enough.
func (s *Service) sign(h http.Header, environment string, hook Hook, id, body string, now time.Time) error {
	generations := []int64{hook.Generation}
	if now.Before(hook.PreviousUntil) {
		generations = append(generations, hook.Generation-1)
	}
	all := make([]string, len(generations))
	for i, generation := range generations {
		k, err := key(s.Secret, environment, hook.ClientID, generation)
		if err != nil {
			return err
		}
		all[i] = signature(k, id, now.Unix(), body)
	}
	h.Set(headerID, id)
	h.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(headerSignature, strings.Join(all, " "))
	return nil
}

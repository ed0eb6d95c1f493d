package login

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/directory"
)

func (w *world) webhook(t *testing.T, method, path string, body any) (h webhook) {
	t.Helper()
	w.ask(t, method, path, body).want(t, 200).json(t, &h)
	return h
}

func TestWebhooks(t *testing.T) {
	w := newWorld(t)
	a := w.newApp(t, kindWeb, callback)
	path := "/internal/apps/" + a.ClientID + "/webhook"
	w.ask(t, "GET", path, nil).refusedInternally(t, 404, "not_found")
	w.ask(t, "POST", path+"/rotate", map[string]int{}).refusedInternally(t, 404, "not_found")
	w.ask(t, "DELETE", path, nil).refusedInternally(t, 404, "not_found")
	w.ask(t, "PUT", "/internal/apps/nobody/webhook", map[string]string{"url": "https://a.example/"}).refusedInternally(t, 404, "not_found")
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", maxWebhookURL+1)} {
		w.ask(t, "PUT", path, map[string]string{"url": bad}).refusedInternally(t, 422, "invalid", "url")
	}
	w.ask(t, "PUT", path, map[string]int{"url": 7}).refusedInternally(t, 422, "invalid", "url")

	if h := w.webhook(t, "PUT", path, map[string]string{"url": "https://a.example/"}); h.App != a.ID || h.ClientID != a.ClientID || h.Name != a.Name || h.URL != "https://a.example/" || h.Generation != 1 || !h.PreviousUntil.IsZero() {
		t.Errorf("set: %+v", h)
	}
	for _, overlap := range []int64{-1, 30*24*3600 + 1} {
		w.ask(t, "POST", path+"/rotate", map[string]int64{"overlap_seconds": overlap}).refusedInternally(t, 422, "invalid", "overlap_seconds")
	}
	before := w.clock.now()
	h := w.webhook(t, "POST", path+"/rotate", map[string]any{"overlap_seconds": 3600, "secret_id": "1"})
	w.ask(t, "POST", path+"/rotate", map[string]any{"overlap_seconds": 3600, "secret_id": "1"}).refusedInternally(t, 409, "conflict") // it was sent twice
	w.ask(t, "POST", path+"/rotate", map[string]any{"secret_id": "x"}).refusedInternally(t, 422, "invalid", "secret_id")
	w.ask(t, "POST", path+"/rotate", map[string]any{"secret_id": "9223372036854775807"}).refusedInternally(t, 409, "conflict")
	if until := h.PreviousUntil.Sub(before); h.Generation != 2 || until < 59*time.Minute || until > 61*time.Minute {
		t.Errorf("rotated with an overlap: %+v", h)
	}
	if other := w.webhook(t, "PUT", path, map[string]string{"url": "https://b.example/"}); other.Generation != 2 || !other.PreviousUntil.Equal(h.PreviousUntil) || other.URL != "https://b.example/" {
		t.Errorf("another URL: %+v", other)
	}
	if h := w.webhook(t, "POST", path+"/rotate", map[string]int64{}); h.Generation != 3 || !h.PreviousUntil.IsZero() {
		t.Errorf("rotated at once: %+v", h)
	}
	w.webhook(t, "DELETE", path, nil)
	w.ask(t, "GET", path, nil).refusedInternally(t, 404, "not_found")
	if h := w.webhook(t, "PUT", fmt.Sprintf("/internal/apps/%d/webhook", a.ID), map[string]string{"url": "https://a.example/"}); h.Generation != 4 {
		t.Errorf("a removed webhook came back with an earlier secret: %+v", h)
	}
	send(t, noRedirects, newRequest(t, http.MethodGet, w.internal+path, nil)).want(t, 401)
}

// Which apps hear of a company: those that are installed there, and its own service accounts.
func TestWebhooksOfACompany(t *testing.T) {
	w := newWorld(t)
	const one, two = company.ID(5), company.ID(6)
	installed, removed, silent, elsewhere := w.newApp(t, kindWeb, callback), w.newApp(t, kindWeb, callback), w.newApp(t, kindWeb, callback), w.newApp(t, kindWeb, callback)
	var traditional app
	w.ask(t, "POST", "/internal/apps", newApp{Name: "Own", Kind: kindTraditional, Company: one}).want(t, 201).json(t, &traditional)
	for _, a := range []int64{installed.ID, removed.ID, elsewhere.ID, traditional.ID} {
		w.webhook(t, "PUT", fmt.Sprintf("/internal/apps/%d/webhook", a), map[string]string{"url": "https://a.example/"})
	}
	must(t, w.service.applyChanges(context.Background(), []directory.Change{
		{Company: one, Version: 1, Kind: directory.ChangeInstallation, Key: installed.ID},
		{Company: one, Version: 2, Kind: directory.ChangeInstallation, Key: removed.ID},
		{Company: one, Version: 3, Kind: directory.ChangeInstallation, Key: removed.ID, Deleted: true},
		{Company: one, Version: 4, Kind: directory.ChangeInstallation, Key: silent.ID},
		{Company: two, Version: 1, Kind: directory.ChangeInstallation, Key: elsewhere.ID},
	}))
	of := func(id company.ID) (apps []int64) {
		var got struct{ Webhooks []webhook }
		w.ask(t, "GET", fmt.Sprintf("/internal/companies/%d/webhooks", id), nil).want(t, 200).json(t, &got)
		for _, h := range got.Webhooks {
			apps = append(apps, h.App)
		}
		return apps
	}
	if got, want := fmt.Sprint(of(one), of(two), of(7)), fmt.Sprint([]int64{installed.ID, traditional.ID}, []int64{elsewhere.ID}, []int64{}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w.ask(t, "GET", "/internal/companies/x/webhooks", nil).refusedInternally(t, 400, "bad_request")
	// The monthly sandbox doesn't get them: nothing of what happens there goes to production's URLs.
	if whole := string(w.identity(t, http.MethodGet, "").want(t, 200).body); strings.Contains(whole, "a.example") {
		t.Error("the copy has webhooks")
	}
}

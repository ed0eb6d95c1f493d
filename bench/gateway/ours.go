package main

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"mpr/bench/machine"
	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/directory"
	"mpr/stack"
)

const environment = "production"

// startOurs starts control with the directory, the login service and a gateway, loads the
// companies and gets the access tokens.
func (j *job) startOurs(ctx context.Context, name string) (*proxy, error) {
	a, err := machine.FreeAddresses(8)
	if err != nil {
		return nil, err
	}
	admin := crand.Text() + crand.Text()
	if err := errors.Join(j.write("admin.token", admin), j.write("secret", crand.Text()+crand.Text()), j.configure(a)); err != nil {
		return nil, err
	}
	for _, role := range []string{"control", "login"} {
		p, err := machine.StartOn(ctx, loadCore, j.dir, role, j.o.binary, role, "--config", j.path("mpr.yaml"))
		if err != nil {
			return nil, err
		}
		j.closes = append(j.closes, p.Stop)
	}
	if err := j.place(ctx, a[0]); err != nil {
		return nil, fmt.Errorf("load the companies: %w", err)
	}
	if err := j.grant(ctx, control.NewClient("http://"+a[1], admin, environment), "http://"+a[2]); err != nil {
		return nil, err
	}
	ours := &proxy{name: name, address: a[3], tokens: j.ours, checks: true}
	if ours.Process, err = j.startGateway(ctx, "gateway", "http://"+a[3], a[5]); err != nil {
		return nil, err
	}
	if slices.Contains(j.o.series, "tls") {
		ours.tls = a[7]
		ours.secure, err = j.startGateway(ctx, "secure", "https://"+a[7], a[6])
	}
	return ours, err
}

// startGateway starts a gateway, and waits until it answers.
func (j *job) startGateway(ctx context.Context, name, door, operations string) (*machine.Process, error) {
	program, args := j.o.binary, []string{"gateway", "--config", j.path(name + ".yaml"), "--operations", operations}
	if j.o.profile != "" && name == "gateway" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
		args = []string{"--serve", j.path(name + ".yaml"), "--profile", j.o.profile}
	}
	p, err := machine.StartOn(ctx, proxyCore, j.dir, name, program, args...)
	if err != nil {
		return nil, err
	}
	j.closes = append(j.closes, p.Stop)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a certificate of our own
	defer client.CloseIdleConnections()
	return p, machine.Eventually(ctx, "the gateway answers at "+door, within, 50*time.Millisecond, func(ctx context.Context) error {
		return j.callOnce(ctx, client, door, j.ours[0], 0)
	})
}

// configure writes the configuration of control and login, and those of the gateways, each of which
// has a folder of its own: one with a plain door, and one whose door speaks TLS.
func (j *job) configure(a []string) error {
	var regions strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&regions, "      - {code: %s, number: %d, upstreams: [\"http://%s\"]}\n", code, numbers[i], j.upstreams[i])
	}
	for file, door := range map[string]struct{ folder, api, tls string }{
		"mpr.yaml": {"data", a[3], ""}, "gateway.yaml": {"gateway", a[3], ""},
		"secure.yaml": {"secure", a[7], fmt.Sprintf("tls: {certificates: [{certificate_file: %q}]}\n", j.path("pair.pem"))},
	} {
		err := j.write(file, door.tls+fmt.Sprintf(`data: %q
secret_file: %q
tokens: {access_lifetime: 12h}
directory: {listen: %q}
control: {listen: %q, token_file: %q}
access_log: {file: %q, share: 0.01}
environments:
  - name: %s
    login: {host: login.procore.com, listen: %q}
    api: {host: api.procore.com, listen: %q}
    identity: {internal: %q}
    regions:
%s`, j.path(door.folder), j.path("secret"), a[0], a[1], j.path("admin.token"), j.path(door.folder+".access"), environment, a[2], door.api, a[4], &regions))
		if err != nil {
			return err
		}
	}
	return nil
}

// place loads the companies into the directory.
func (j *job) place(ctx context.Context, address string) error {
	secret, err := os.ReadFile(j.path("secret"))
	if err != nil {
		return err
	}
	nc, err := directory.Connect([]string{"nats://" + address}, strings.TrimSpace(string(secret)), "bench")
	if err != nil {
		return err
	}
	defer nc.Close()
	var d *directory.Directory
	err = machine.Eventually(ctx, "open the directory", within, 100*time.Millisecond, func(ctx context.Context) (err error) {
		d, err = directory.Open(ctx, nc, environment, 1)
		return err
	})
	if err != nil {
		return err
	}
	onboarded := time.Date(2017, time.March, 1, 0, 0, 0, 0, time.UTC)
	_, err = d.Load(ctx, func(yield func(company.Placement) bool) {
		for i := range j.o.companies {
			if !yield(company.Placement{Company: number(i), Region: codes[i%len(codes)], Epoch: 1, Onboarded: onboarded}) {
				return
			}
		}
	})
	return err
}

// grant registers service accounts, and gets an access token for each.
func (j *job) grant(ctx context.Context, admin *control.Client, login string) error {
	for i := range tokens {
		key := crand.Text()
		var app control.App
		err := machine.Eventually(ctx, "register a service account", within, 50*time.Millisecond, func(ctx context.Context) (err error) {
			app, err = admin.CreateServiceAccount(ctx, control.NewServiceAccount{Name: fmt.Sprint("Sync ", i), Kind: control.KindDeveloperManaged, IdempotencyKey: key})
			return err
		})
		if err != nil {
			return err
		}
		var token string
		err = machine.Eventually(ctx, "get a token", within, 50*time.Millisecond, func(ctx context.Context) (err error) {
			token, err = granted(ctx, login, app)
			return err
		})
		if err != nil {
			return err
		}
		j.ours = append(j.ours, token)
	}
	return nil
}

func granted(ctx context.Context, login string, app control.App) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {app.ClientID}, "client_secret": {app.ClientSecret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, login+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s %w", resp.Status, data, errors.Join(err))
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	return answer.Token, json.Unmarshal(data, &answer)
}

// serveProfiled is a gateway in this process, with a profile of its CPU time.
func serveProfiled(ctx context.Context, file, profile string) (err error) {
	c, err := config.Load(file, 4000, "", "")
	if err != nil {
		return err
	}
	f, err := os.Create(profile) //nolint:gosec // whoever starts this names it
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { pprof.StopCPUProfile(); err = errors.Join(err, f.Close()) }()
	return stack.RunRole(ctx, stack.RoleOptions{Config: c, Role: stack.RoleGateway})
}

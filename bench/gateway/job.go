package main

import (
	"context"
	"crypto"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpr/bench/machine"
	"mpr/company"
)

const (
	// called is how many of the companies are called, and tokens with how many access tokens,
	// each of an app of its own.
	called = 1000
	tokens = 100
	// The proxy that is measured has one core; all else shares the other.
	proxyCore, loadCore = 0, 1
	// bodySize is how long an answer is.
	bodySize = 1024
	// within is how long anything may take that isn't measured.
	within = 2 * time.Minute
)

// codes and numbers are the regions that the companies live in, in turn.
var (
	codes   = []company.Region{"US01", "US02", "EU01"}
	numbers = []int{0, 16, 17}
)

// number is the i-th company.
func number(i int) company.ID {
	return company.ID(int64(numbers[i%len(numbers)])<<company.RegionShift + 1000 + int64(i/len(numbers)))
}

// calledOne is the i-th of the companies that are called: they lie far apart from one another.
func (j *job) calledOne(i int) int { return i * (j.o.companies / called) }

// job is what all proxies have to do, and what they need for it.
type job struct {
	o         options
	dir       string
	upstreams []string // of the regions, in their order
	ours      []string // access tokens of our login service
	signed    []string // access tokens with RS256, for those who can't ask it
	closes    machine.Cleanup
}

func newJob(ctx context.Context, o options) (j *job, err error) {
	j = &job{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.close())
		}
	}()
	if j.dir, err = os.MkdirTemp("", "mpr-bench-gateway"); err != nil {
		return j, err
	}
	j.closes = append(j.closes, func() error { return os.RemoveAll(j.dir) })
	if err := os.Chmod(j.dir, 0o755); err != nil { //nolint:gosec // nginx's and HAProxy's own users read there
		return j, err
	}
	if err := j.makeCertificate(); err != nil {
		return j, err
	}
	if err := j.signTokens(); err != nil {
		return j, err
	}
	return j, j.startUpstream(ctx)
}

func (j *job) close() error { return j.closes.Close() }

func (j *job) write(name, text string) error {
	return os.WriteFile(filepath.Join(j.dir, name), []byte(text), 0o644) //nolint:gosec // nothing of it is a secret for longer than the run
}

func (j *job) path(name string) string { return filepath.Join(j.dir, name) }

// body is what a region answers.
func body(code company.Region) string {
	head := fmt.Sprintf(`{"region":"%s","padding":"`, code)
	return head + strings.Repeat("x", bodySize-len(head)-2) + `"}`
}

// startUpstream starts a server for each region, on the core of the load.
func (j *job) startUpstream(ctx context.Context) error {
	addresses, err := machine.FreeAddresses(len(codes))
	if err != nil {
		return err
	}
	var servers strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&servers, "  server {\n    listen %s backlog=4096;\n    location / { default_type application/json; return 200 '%s'; }\n  }\n", addresses[i], body(code))
		j.upstreams = append(j.upstreams, addresses[i])
	}
	config := nginxHead(j.path("upstream.pid")) + "  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n" + servers.String() + "}\n"
	return j.startNginx(ctx, "upstream", loadCore, config, addresses[0])
}

// signTokens makes access tokens as long as ours, signed with RS256, and the file of the key.
func (j *job) signTokens() error {
	key, err := rsa.GenerateKey(crand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := j.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))); err != nil {
		return err
	}
	encode := base64.RawURLEncoding.EncodeToString
	for i := range tokens {
		claims, err := json.Marshal(map[string]any{
			"iss": "https://login.procore.com", "sub": "7", "client_id": fmt.Sprintf("client-%020d", i), "app": i + 1, "kind": "service",
			"grant": crand.Text(), "jti": crand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})
		if err != nil {
			return err
		}
		text := encode([]byte(`{"typ":"JWT","alg":"RS256"}`)) + "." + encode(claims)
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(crand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			return err
		}
		j.signed = append(j.signed, text+"."+encode(signature))
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"mpr/bench/machine"
)

// proxy is a process that does the job.
type proxy struct {
	name    string
	address string // of plain HTTP
	tls     string // of HTTPS; empty for none
	tokens  []string
	checks  bool // it refuses wrong tokens
	*machine.Process
	// secure is the process that speaks TLS, where that is one of its own.
	secure *machine.Process
}

// proxies starts all that are asked for.
func (j *job) proxies(ctx context.Context) (all []*proxy, err error) {
	if err := j.writeMaps(); err != nil {
		return nil, err
	}
	for _, one := range []struct {
		name  string
		start func(context.Context, string) (*proxy, error)
	}{
		{"mpr", j.startOurs},
		{"nginx, map, no token check", j.startNginxMap},
		{"haproxy, map, no token check", func(ctx context.Context, name string) (*proxy, error) { return j.startHAProxy(ctx, name, false) }},
		{"haproxy, map, RS256 check", func(ctx context.Context, name string) (*proxy, error) { return j.startHAProxy(ctx, name, true) }},
	} {
		if !j.wanted(one.name) {
			continue
		}
		p, err := one.start(ctx, one.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no proxy of the name %v", j.o.only)
	}
	return all, nil
}

func (j *job) wanted(name string) bool {
	for _, prefix := range j.o.only {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(j.o.only) == 0
}

// writeMaps writes the companies with their regions, as each peer reads them.
func (j *job) writeMaps() error {
	for file, format := range map[string]string{"nginx.map": "%d %s;\n", "haproxy.map": "%d %s\n"} {
		f, err := os.Create(j.path(file))
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		for i := range j.o.companies {
			fmt.Fprintf(w, format, number(i), codes[i%len(codes)])
		}
		if err := errors.Join(w.Flush(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// nginxHead is the beginning of a configuration: one process, without logs.
func nginxHead(pid string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
pid %q;
error_log stderr crit;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path %[2]s-body; proxy_temp_path %[2]s-proxy; fastcgi_temp_path %[2]s-f; uwsgi_temp_path %[2]s-u; scgi_temp_path %[2]s-s;
`, pid, strings.TrimSuffix(pid, ".pid"))
}

// startNginx starts nginx, and waits until it listens.
func (j *job) startNginx(ctx context.Context, name string, core int, config, address string) error {
	_, err := j.startWith(ctx, name, core, "nginx", name+".conf", config, address, "-c", j.path(name+".conf"), "-e", "stderr")
	return err
}

// startWith starts a program with a configuration, and waits until it listens.
func (j *job) startWith(ctx context.Context, name string, core int, program, file, config, address string, args ...string) (*machine.Process, error) {
	if err := j.write(file, config); err != nil {
		return nil, err
	}
	p, err := machine.StartOn(ctx, core, j.dir, file, program, args...)
	if err != nil {
		return nil, fmt.Errorf("%w; apt-get install haproxy nginx wrk", err)
	}
	j.closes = append(j.closes, func() error { _ = p.Stop(); return nil }) // HAProxy says that it was stopped by a signal
	return p, machine.Eventually(ctx, name+" listens", within, 20*time.Millisecond, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func (j *job) startNginxMap(ctx context.Context, name string) (*proxy, error) {
	a, err := machine.FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	var upstreams strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&upstreams, "  upstream %s { server %s; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; }\n", code, j.upstreams[i])
	}
	config := nginxHead(j.path("nginx.pid")) + fmt.Sprintf(`  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  map_hash_max_size 2000000;
  map_hash_bucket_size 128;
  map $http_procore_company_id $region { include %q; }
%s  server {
    listen %s backlog=4096;
    listen %s ssl backlog=4096;
    ssl_certificate %[5]q;
    ssl_certificate_key %[5]q;
    ssl_protocols TLSv1.3;
    location / {
      proxy_pass http://$region;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }
  }
}
`, j.path("nginx.map"), &upstreams, a[0], a[1], j.path("pair.pem"))
	p, err := j.startWith(ctx, name, proxyCore, "nginx", "nginx.conf", config, a[0], "-c", j.path("nginx.conf"), "-e", "stderr")
	return &proxy{name: name, address: a[0], tls: a[1], tokens: j.signed, Process: p}, err
}

func (j *job) startHAProxy(ctx context.Context, name string, check bool) (*proxy, error) {
	a, err := machine.FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	file, checks := "haproxy.cfg", ""
	if check {
		file = "haproxy-rs256.cfg"
		checks = fmt.Sprintf("  http-request set-var(txn.bearer) http_auth_bearer\n  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n"+
			"  http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }\n"+
			"  http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,%q) -m int 1 }\n", j.path("key.pem"))
	}
	var backends strings.Builder
	for i, code := range codes {
		fmt.Fprintf(&backends, "backend %s\n  http-reuse always\n  server one %s\n", code, j.upstreams[i])
	}
	config := fmt.Sprintf(`global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend door
  bind %s backlog 4096
  bind %s backlog 4096 ssl crt %q ssl-min-ver TLSv1.3 alpn http/1.1
%s  use_backend %%[req.hdr(Procore-Company-Id),map_str(%s)]
%s`, a[0], a[1], j.path("pair.pem"), checks, j.path("haproxy.map"), &backends)
	p, err := j.startWith(ctx, name, proxyCore, "haproxy", file, config, a[0], "-db", "-f", j.path(file))
	return &proxy{name: name, address: a[0], tls: a[1], tokens: j.signed, checks: check, Process: p}, err
}

// makeCertificate makes the pair that all proxies speak TLS with.
func (j *job) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "api.procore.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 2),
		DNSNames: []string{"api.procore.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return j.write("pair.pem", string(pair))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"mpr/directory"
	"mpr/gateway"
	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// asOf is before the sunset: the legacy door works.
var asOf = time.Date(2019, 3, 1, 0, 0, 0, 0, time.UTC)

// serve is a gateway process. It prints its address, and goes when its input ends.
func serve(ctx context.Context, address, others string, counts bool, profile string) (err error) {
	dir, err := os.MkdirTemp("", "mpr-bench-gateway")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	nc, err := directory.Connect([]string{"nats://" + address}, secret, "gateway")
	if err != nil {
		return err
	}
	defer nc.Close()
	replica, err := directory.OpenReplica(nc, environment, filepath.Join(dir, "replica"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, replica.Close()) }()
	follower, err := token.Follow(ctx, nc, environment, filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, follower.Close()) }()
	if err := errors.Join(replica.Ready(ctx), follower.Ready(ctx)); err != nil {
		return err
	}
	policy := rules.Seed()
	o := gateway.Options{
		Policy: func() *rules.Policy { return &policy }, Placements: replica,
		Verifier:    token.NewVerifier(issuer, follower, 10_000, time.Now),
		IdentityURL: others, LoginURL: others,
		Limits: gateway.Limits{
			MaxBody: 1 << 30, IdleTimeout: time.Minute, StallTimeout: 30 * time.Second,
			ConnectTimeout: 5 * time.Second, AnswerTimeout: time.Minute, HoldTimeout: 10 * time.Second, HoldCalls: 1000, UpstreamConns: 512,
		},
		Now: func() time.Time { return asOf },
	}
	if counts {
		counter := ledger.NewCounter(directory.OpenLateStream(nc, ledgerKind, environment, 1), o.Now, filepath.Join(dir, "counts"))
		defer func() { err = errors.Join(err, counter.Close(context.WithoutCancel(ctx))) }()
		o.Ledger = counter
	}
	service, err := gateway.New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile) //nolint:gosec // whoever starts this names it
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(err, f.Close())
		}
		defer func() { pprof.StopCPUProfile(); err = errors.Join(err, f.Close()) }()
	}
	server := &http.Server{Handler: problem.Handler(service.Handler(rules.DoorLegacy)), ReadHeaderTimeout: time.Minute}
	fmt.Println(l.Addr())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	err = server.Shutdown(context.WithoutCancel(ctx))
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

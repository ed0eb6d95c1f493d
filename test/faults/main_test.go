package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpr/company"
	"mpr/config"
	"mpr/directory"
	"mpr/move"
	"mpr/stack"
)

// The environment of a process that is one of ours.
const (
	envRole   = "MPR_FAULTS_ROLE"   // such as "region EU01"
	envConfig = "MPR_FAULTS_CONFIG" // its mpr.yaml
	envSteps  = "MPR_FAULTS_STEPS"  // the URL where the mover tells its steps
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play is a process of the system, until it is asked to stop.
func play(role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(os.Getenv(envConfig), 0, "", "")
	if err != nil {
		return err
	}
	var ahead atomic.Int64
	go func() { // it ends with the process
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if by, err := time.ParseDuration(lines.Text()); err == nil {
				ahead.Store(int64(by))
			}
		}
	}()
	role, code, _ := strings.Cut(role, " ")
	if role == "directory" {
		return serveDirectory(ctx, cfg)
	}
	return stack.RunRole(ctx, stack.RoleOptions{
		Config: cfg, Role: role, Region: code, MoverStep: tellStep,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
}

func serveDirectory(ctx context.Context, cfg *config.Config) error {
	secret, err := os.ReadFile(cfg.Secret)
	if err != nil {
		return err
	}
	server, err := directory.StartServer(directory.ServerOptions{Dir: cfg.Data, Listen: cfg.Directory.Listen, Secret: strings.TrimSpace(string(secret))})
	if err != nil {
		return err
	}
	<-ctx.Done()
	server.Close()
	return nil
}

// stepOf is what a mover tells of a step.
type stepOf struct {
	Company company.ID
	Name    string
}

// tellStep tells the test of a step, and waits until it says how to go on, however long the change-over
// has taken by then: movers that were asleep wake up to an end of their time as well. On a busy
// machine those that came first would otherwise be gone before the last one has come.
func tellStep(ctx context.Context, m *move.Move, name string) error {
	if name == "beat" {
		return nil
	}
	data, err := json.Marshal(stepOf{m.Company, name})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, os.Getenv(envSteps), bytes.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New("the test has this step fail")
	}
	return nil
}

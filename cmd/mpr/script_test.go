package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mpr/test/engine"
)

// TestMain lets scripts run mpr: the test binary is the program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mpr": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setup,
		Condition: func(name string) (bool, error) {
			if name != "postgres" { // the engine of what dev starts
				return false, fmt.Errorf("there is no condition %q", name)
			}
			return engine.Server() != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"field":  field,
			"dev":    startDev,
			"stop":   stopDev,
			"listen": listen,
			"signin": signIn,
			"mode":   mode,
		},
	})
}

// listen starts an app's server, which answers all with a status, and puts its URL into a
// variable: listen VARIABLE STATUS.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: listen VARIABLE STATUS")
	}
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// exits runs mpr and wants an exit code: exits 2 company show.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits CODE [ARGUMENT...]")
	}
	err := ts.Exec("mpr", args[1:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if args[0] != strconv.Itoa(code) {
		ts.Fatalf("mpr %q exits with %d, want %s", args[1:], code, args[0])
	}
}

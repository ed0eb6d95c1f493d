package nodes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"mpr/test/loopback"
)

// configuration is the variable that names the configuration of the server that a process is.
const configuration = "MPR_TEST_NODE"

// Serve does nothing, unless the process was started as a server: then it never returns.
func Serve() {
	file := os.Getenv(configuration)
	if file == "" {
		return
	}
	options, err := natsserver.ProcessConfigFile(file)
	if err == nil {
		var s *natsserver.Server
		if s, err = natsserver.NewServer(options); err == nil {
			s.ConfigureLogger()
			s.Start()
			s.WaitForShutdown()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Node is a NATS server that is a process.
type Node struct {
	// Name is what the server calls itself, and URL where clients reach it.
	Name, URL string

	t    *testing.T
	file string
	cmd  *exec.Cmd
}

// Start runs a server until the test ends: conf is as of nats-server, where STORE stands for a
// folder of its own.
func Start(t *testing.T, name, listen, conf string) *Node {
	t.Helper()
	n := &Node{Name: name, URL: "nats://" + listen, t: t, file: filepath.Join(t.TempDir(), name+".conf")}
	conf = fmt.Sprintf("server_name: %s\nlisten: %q\nlog_file: %q\n", name, listen, n.file+".log") + conf
	if err := os.WriteFile(n.file, []byte(strings.ReplaceAll(conf, "STORE", filepath.Join(t.TempDir(), "store"))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n.Runs() {
			n.Kill()
		}
	})
	n.Run()
	return n
}

// Runs says whether the node wasn't killed since it was started.
func (n *Node) Runs() bool { return n.cmd != nil }

// Run starts a node again that was killed, on the store that it had.
func (n *Node) Run() {
	n.t.Helper()
	n.cmd = exec.Command(os.Args[0]) //nolint:noctx,gosec // it is ended by the test, whose own binary it is
	n.cmd.Env, n.cmd.Stderr = append(os.Environ(), configuration+"="+n.file), os.Stderr
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// Kill ends a node as the loss of its machine would.
func (n *Node) Kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // it was killed
	if status, is := n.cmd.ProcessState.Sys().(syscall.WaitStatus); !is || !status.Signaled() {
		text, _ := os.ReadFile(n.file + ".log")
		n.t.Errorf("%s had ended by itself: %s", n.Name, text)
	}
	n.cmd = nil
}

// Cluster runs three servers with JetStream, and answers them, where clients reach them, and where
// leaf nodes do.
func Cluster(t *testing.T) (all []*Node, urls, leafs []string) {
	t.Helper()
	a := loopback.FreeAddresses(t, 9)
	for i := range 3 {
		n := Start(t, fmt.Sprint("n", i), a[i], fmt.Sprintf(`
jetstream { store_dir: "STORE", sync_interval: always, domain: hub }
cluster { name: hub, listen: %q, routes: ["nats://%s"] }
leafnodes { listen: %q }
`, a[3+i], strings.Join(a[3:6], `", "nats://`), a[6+i]))
		all, urls, leafs = append(all, n), append(urls, n.URL), append(leafs, a[6+i])
	}
	return all, urls, leafs
}

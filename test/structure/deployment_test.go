package structure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// deployed reads all YAML below deploy: the documents of each file.
func deployed(t *testing.T) map[string][]map[string]any {
	t.Helper()
	found := map[string][]map[string]any{}
	walk(t, func(name string) {
		if !strings.HasPrefix(name, "deploy/") || path.Ext(name) != ".yaml" {
			return
		}
		documents := yaml.NewDecoder(bytes.NewReader([]byte(read(t, name))))
		for {
			var one map[string]any
			err := documents.Decode(&one)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			found[name] = append(found[name], one)
		}
	})
	return found
}

// at leads through maps and lists to a value; nil where there is none.
func at(value any, steps ...any) any {
	for _, step := range steps {
		switch key := step.(type) {
		case string:
			m, _ := value.(map[string]any)
			value = m[key]
		case int:
			list, _ := value.([]any)
			if key >= len(list) {
				return nil
			}
			value = list[key]
		}
	}
	return value
}

// started is a command of mpr that a file under deploy starts, and how long it may take to stop.
type started struct {
	file, who, command string
	grace              time.Duration
}

func joined(list any) string {
	all, _ := list.([]any)
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = fmt.Sprint(one)
	}
	return strings.Join(texts, " ")
}

// everythingStarted finds them: containers of our image, and units.
func everythingStarted(t *testing.T) []started {
	t.Helper()
	var all []started
	for file, documents := range deployed(t) {
		for _, d := range documents {
			pod := at(d, "spec", "template", "spec")
			if at(pod, "containers", 0, "image") == "mpr" {
				seconds, _ := at(pod, "terminationGracePeriodSeconds").(int)
				all = append(all, started{file, fmt.Sprint(at(d, "metadata", "name")), joined(at(pod, "containers", 0, "args")), time.Duration(seconds) * time.Second})
			}
			services, _ := d["services"].(map[string]any)
			for name, s := range services {
				if at(s, "image") == "mpr" {
					grace, _ := time.ParseDuration(fmt.Sprint(at(s, "stop_grace_period")))
					all = append(all, started{file, name, joined(at(s, "command")), grace})
				}
			}
		}
	}
	start, stop := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/mpr (.*)$`), regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`)
	walk(t, func(name string) {
		if path.Ext(name) != ".service" {
			return
		}
		m := start.FindStringSubmatch(read(t, name))
		if m == nil {
			t.Errorf("%s doesn't start mpr", name)
			return
		}
		var grace time.Duration
		if seconds := stop.FindStringSubmatch(read(t, name)); seconds != nil {
			grace, _ = time.ParseDuration(seconds[1] + "s")
		}
		all = append(all, started{name, path.Base(name), strings.ReplaceAll(m[1], "%i", "US01"), grace})
	})
	return all
}

// What is deployed starts commands that there are, with a configuration that is fine, and gives each role the time to drain.
func TestDeployment(t *testing.T) {
	binary := buildMPR(t)
	out, err := exec.CommandContext(t.Context(), binary, "config", "check", "--config", filepath.Join(root, "deploy/mpr.yaml")).CombinedOutput()
	if err != nil {
		t.Errorf("deploy/mpr.yaml: %v\n%s", err, out)
	}
	help := helper(t, binary)
	roles := map[string][]string{} // by the way to deploy
	operations := at(deployed(t)["deploy/mpr.yaml"][0], "operations")
	var drain time.Duration
	for _, setting := range []string{"drain_delay", "drain_time"} {
		d, err := time.ParseDuration(fmt.Sprint(at(operations, setting)))
		if err != nil {
			t.Fatal(err)
		}
		drain += d
	}
	for _, s := range everythingStarted(t) {
		words, flags := split(s.command)
		usage := helpOf(help, words)
		if usage == "" {
			t.Errorf("%s: %s starts mpr %s, and there is no such command", s.file, s.who, s.command)
		}
		for _, flag := range flags {
			if !strings.Contains(usage, flag) {
				t.Errorf("%s: %s starts mpr %s, which has no flag %s", s.file, s.who, s.command, flag)
			}
		}
		if words[0] == "db" {
			continue // it has no calls in flight
		}
		roles[path.Dir(s.file)] = append(roles[path.Dir(s.file)], words[0])
		if s.grace < drain+5*time.Second {
			t.Errorf("%s: %s is killed after %v, and may take %v to drain", s.file, s.who, s.grace, drain)
		}
	}
	for _, way := range []string{"deploy", "deploy/kubernetes", "deploy/systemd"} {
		for _, role := range []string{"control", "login", "gateway", "region"} {
			if !slices.Contains(roles[way], role) {
				t.Errorf("%s starts no %s: it starts %q", way, role, roles[way])
			}
		}
	}
}

// Probes ask where operators are answered, services have the ports that the configuration says, and each region that it
// has is there.
func TestDeployedPorts(t *testing.T) {
	all := deployed(t)
	cfg := all["deploy/mpr.yaml"][0]
	listen := map[string]bool{fmt.Sprint(at(cfg, "control", "listen")): false}
	environment := at(cfg, "environments", 0)
	for _, steps := range [][]any{{"login", "listen"}, {"api", "listen"}, {"legacy", "listen"}, {"identity", "internal"}} {
		listen[fmt.Sprint(at(environment, steps...))] = false
	}
	regions, _ := at(environment, "regions").([]any)
	for _, r := range regions {
		processes, _ := at(r, "processes").([]any)
		for _, p := range processes {
			for _, setting := range []string{"listen", "internal"} {
				_, service, _ := strings.Cut(fmt.Sprint(at(p, setting)), ".") // behind the name of the pod
				listen[service] = false
			}
		}
	}
	operations := fmt.Sprint(at(cfg, "operations", "listen"))
	for file, documents := range all {
		for _, d := range documents {
			if at(d, "kind") == "Service" {
				ports, _ := at(d, "spec", "ports").([]any)
				for _, p := range ports {
					listen[fmt.Sprintf("%v:%v", at(d, "metadata", "name"), at(p, "port"))] = true
				}
			}
			container := at(d, "spec", "template", "spec", "containers", 0)
			if at(container, "image") != "mpr" || d["kind"] == "Job" {
				continue
			}
			for probe, want := range map[string]string{"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} {
				get := at(container, probe, "httpGet")
				if at(get, "path") != want || at(get, "port") != "operations" {
					t.Errorf("%s: the %s asks for %v at %v", file, probe, at(get, "path"), at(get, "port"))
				}
			}
			if ports := fmt.Sprint(at(container, "ports")); !strings.Contains(ports, "containerPort"+operations+" name:operations") {
				t.Errorf("%s: operators are answered at %s, and the container has %s", file, operations, ports)
			}
		}
	}
	for address, there := range listen {
		if host, _, _ := strings.Cut(address, ":"); !there && host != "" {
			t.Errorf("deploy/mpr.yaml says %s, and no service of deploy/kubernetes has that", address)
		}
	}
}

// Each process that the configuration names for a region is started by Compose and by Kubernetes, at the name by which others
// find it, with a certificate for that name where they have some. Kubernetes disrupts one at a time.
func TestDeployedProcesses(t *testing.T) {
	all := deployed(t)
	regions, _ := at(all["deploy/mpr.yaml"][0], "environments", 0, "regions").([]any)
	budgets, pods, certified := map[string]any{}, map[string]int{}, map[string]bool{}
	for _, documents := range all {
		for _, d := range documents {
			name := fmt.Sprint(at(d, "metadata", "name"))
			switch d["kind"] {
			case "PodDisruptionBudget":
				budgets[name] = at(d, "spec", "maxUnavailable")
			case "StatefulSet":
				replicas, _ := at(d, "spec", "replicas").(int)
				if at(d, "spec", "serviceName") == name { // their names are NAME-0.NAME and so on
					pods[name] = replicas
				}
			case "Certificate":
				hosts, _ := at(d, "spec", "dnsNames").([]any)
				for _, host := range hosts {
					certified[fmt.Sprint(host)] = true
				}
			}
		}
	}
	for _, r := range regions {
		code, named := at(r, "code"), strings.ToLower(fmt.Sprint("region-", at(r, "code")))
		processes, _ := at(r, "processes").([]any)
		if len(processes) < 2 || pods[named] != len(processes) || budgets[named] != 1 {
			t.Errorf("region %v has %d processes in deploy/mpr.yaml, and %d pods, of which a disruption takes %v", code, len(processes), pods[named], budgets[named])
		}
		for i, p := range processes {
			name, host := fmt.Sprintf("%s-%d", named, i), fmt.Sprintf("%s-%d.%s", named, i, named)
			if at(p, "name") != name || !certified[host] {
				t.Errorf("process %d of region %v is called %v, with a certificate: %v", i, code, at(p, "name"), certified[host])
			}
			for _, setting := range []string{"listen", "internal"} {
				if address := fmt.Sprint(at(p, setting)); !strings.HasPrefix(address, host+":") {
					t.Errorf("others look for %s at %s", name, address)
				}
			}
			service := at(all["deploy/compose.yaml"][0], "services", name)
			if got := joined(at(service, "command")); got != fmt.Sprintf("region run --code %v --process %s", code, name) {
				t.Errorf("Compose starts mpr %s for %s", got, name)
			}
			if at(service, "networks", "inside", "aliases", 0) != host {
				t.Errorf("Compose gives %s no name %s", name, host)
			}
		}
	}
}

// "Calls to all regions go on, also after a gateway is restarted in that state from its copy on disk": on Kubernetes the copy
// outlives its pod.
func TestCopiesOutliveTheirPods(t *testing.T) {
	found := map[string]bool{}
	for file, documents := range deployed(t) {
		for _, d := range documents {
			pod := at(d, "spec", "template", "spec")
			role, _, _ := strings.Cut(joined(at(pod, "containers", 0, "args")), " ")
			if at(pod, "containers", 0, "image") != "mpr" || role == "control" || role == "db" { // these can do nothing without NATS, or don't need it
				continue
			}
			found[role] = true
			if name := at(d, "spec", "volumeClaimTemplates", 0, "metadata", "name"); d["kind"] != "StatefulSet" || name != "data" {
				t.Errorf("%s: the copies of %v, a %v, go with its pod", file, at(d, "metadata", "name"), d["kind"])
			}
			volumes, _ := at(pod, "volumes").([]any)
			for _, v := range volumes {
				if at(v, "emptyDir") != nil {
					t.Errorf("%s: %v keeps %v in its pod", file, at(d, "metadata", "name"), at(v, "name"))
				}
			}
		}
	}
	for _, role := range []string{"gateway", "login", "region"} {
		if !found[role] {
			t.Errorf("Kubernetes starts no %s", role)
		}
	}
}

// Whoever connects from outside needs a label, which docs/deployment.md names; pages of the control role are for browsers, which
// come by a proxy of another namespace.
func TestNetworkPolicies(t *testing.T) {
	text, admin := read(t, "docs/deployment.md"), false
	for _, d := range deployed(t)["deploy/kubernetes/network.yaml"] {
		rules, _ := at(d, "spec", "ingress").([]any)
		for _, rule := range rules {
			from, _ := at(rule, "from").([]any)
			for _, who := range from {
				for _, kind := range []string{"namespaceSelector", "podSelector"} {
					wanted, _ := at(who, kind, "matchLabels").(map[string]any)
					for label, value := range wanted {
						if strings.HasPrefix(label, "mpr/") && !strings.Contains(text, fmt.Sprintf("`%s=%v`", label, value)) {
							t.Errorf("%v wants the label %s=%v, and docs/deployment.md doesn't say so", at(d, "metadata", "name"), label, value)
						}
					}
					admin = admin || at(d, "metadata", "name") == "control" && kind == "namespaceSelector" && len(wanted) > 0
				}
			}
		}
	}
	if !admin {
		t.Error("no proxy of another namespace reaches the control role, and docs/deployment.md has operators' browsers come by one")
	}
}

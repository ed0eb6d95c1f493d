package structure

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents are all Markdown files: path and text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	walk(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		found[name] = string(text)
	})
	return found
}

var (
	link    = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*#*$`)
	fenced  = regexp.MustCompile("(?ms)^\\s*```[a-z]*\\n(.*?)^\\s*```")
	inline  = regexp.MustCompile("`([^`\n]+)`")
)

// Links within the repository lead to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if !exists(target) {
				t.Errorf("%s links to %s, which isn't there", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, m[1], target)
			}
		}
	}
}

// anchors are the anchors that a document's headings have in the usual viewers.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}

// What the documents tell people to type exists: each command, and each of its flags.
func TestDocumentedCommands(t *testing.T) {
	help := helper(t, buildMPR(t))
	checked := 0
	for name, text := range documents(t) {
		for _, command := range commands(text) {
			words, flags := split(command)
			usage := helpOf(help, words)
			if usage == "" {
				t.Errorf("%s documents %q: there is no such command", name, command)
				continue
			}
			for _, flag := range flags {
				if !strings.Contains(usage, flag) {
					t.Errorf("%s documents %q: it has no flag %s", name, command, flag)
				}
			}
			checked++
		}
	}
	if checked == 0 && exists("README.md") {
		t.Error("README.md documents no command")
	}
}

// buildMPR builds mpr, as make build does it, so that little is left to do.
func buildMPR(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "mpr")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "mpr/cmd/mpr")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build mpr: %v\n%s", err, out)
	}
	return binary
}

// helper answers the help of a command; "" where there is no such command.
func helper(t *testing.T, binary string) func(words []string) string {
	t.Helper()
	help := func(words []string) string {
		out, err := exec.CommandContext(t.Context(), binary, append(slices.Clone(words), "--help")...).CombinedOutput()
		if err != nil {
			return ""
		}
		return string(out)
	}
	if help([]string{"no-such-command"}) != "" {
		t.Fatal("mpr has help for a command that isn't there, so this test can hold nothing")
	}
	return help
}

// helpOf is the help of the command that the words start with: arguments follow it.
func helpOf(help func([]string) string, words []string) string {
	for n := len(words); n > 0; n-- {
		if usage := help(words[:n]); usage != "" {
			return usage
		}
	}
	if len(words) == 0 {
		return help(nil)
	}
	return ""
}

var start = regexp.MustCompile(`^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:go run \./cmd/mpr|(?:\./|bin/)*mpr)(?: (.*))?$`)

// commands are the calls of mpr in a document: lines of its code blocks, and code within
// sentences.
func commands(text string) []string {
	var candidates []string
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		candidates = append(candidates, strings.Split(block[1], "\n")...)
	}
	for _, m := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		candidates = append(candidates, m[1])
	}
	var found []string
	for _, c := range candidates {
		if m := start.FindStringSubmatch(strings.TrimSpace(c)); m != nil && m[1] != "" {
			found = append(found, m[1])
		}
	}
	return found
}

// split takes a documented command apart: the words before the first flag or
// placeholder, and the names of the flags.
func split(command string) (words, flags []string) {
	command, _, _ = strings.Cut(command, " #")
	inWords := true
	for _, field := range strings.Fields(command) {
		field = strings.Trim(field, "[]")
		switch {
		case strings.HasPrefix(field, "--"):
			flag, _, _ := strings.Cut(field, "=")
			flags = append(flags, flag)
			inWords = false
		case strings.ContainsAny(field, "|&;<>$\"'`…"):
			inWords = false
		case inWords && field == strings.ToLower(field):
			words = append(words, field)
		default:
			inWords = false
		}
	}
	return words, flags
}

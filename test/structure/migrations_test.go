package structure

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What older processes can't live with, while a rollout lasts.
var contractions = []struct {
	statement *regexp.Regexp
	why       string
}{
	{regexp.MustCompile(`(?i)\bDROP\s+(TABLE|COLUMN|VIEW|CONSTRAINT)\b`), "takes away what older processes use"},
	{regexp.MustCompile(`(?i)\bRENAME\b`), "takes the old name away, which older processes use: add the new one beside it"},
	{regexp.MustCompile(`(?i)\bALTER\s+COLUMN\b`), "changes what older processes write: add another column beside it"},
	{regexp.MustCompile(`(?i)\bADD\s+(CONSTRAINT|CHECK|UNIQUE|FOREIGN)\b`), "refuses what older processes write"},
	{regexp.MustCompile(`(?i)\bTRUNCATE\b`), "takes away what older processes use"},
}

var (
	addsColumn = regexp.MustCompile(`(?i)\bADD\s+COLUMN\b`)
	notNull    = regexp.MustCompile(`(?i)\bNOT\s+NULL\b`)
	hasDefault = regexp.MustCompile(`(?i)\bDEFAULT\b`)
	makesTable = regexp.MustCompile(`(?i)\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)`)
	makesIndex = regexp.MustCompile(`(?i)\bCREATE\s+(UNIQUE\s+)?INDEX\s+(IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)`)
	contracts  = regexp.MustCompile(`(?m)^-- contract: needs \d+$`)
	sqlComment = regexp.MustCompile(`(?m)--.*$`)
)

// expands says what is wrong with a migration that runs while older processes do.
func expands(text string) (wrong []string) {
	bare := sqlComment.ReplaceAllString(text, "")
	own := map[string]bool{}
	for _, table := range makesTable.FindAllStringSubmatch(bare, -1) {
		own[table[1]] = true
	}
	for statement := range strings.SplitSeq(bare, ";") {
		for _, c := range contractions {
			if c.statement.MatchString(statement) && !contracts.MatchString(text) {
				wrong = append(wrong, strings.TrimSpace(statement)+" "+c.why)
			}
		}
		if addsColumn.MatchString(statement) && notNull.MatchString(statement) && !hasDefault.MatchString(statement) {
			wrong = append(wrong, strings.TrimSpace(statement)+" refuses the rows of older processes, which leave it out: give it a DEFAULT")
		}
		index := makesIndex.FindStringSubmatch(statement)
		switch {
		case index == nil || own[index[3]]:
		case index[1] != "" && !contracts.MatchString(text):
			wrong = append(wrong, strings.TrimSpace(statement)+" refuses what older processes write")
		case index[2] == "":
			wrong = append(wrong, strings.TrimSpace(statement)+" holds up writes while it is built: write IF NOT EXISTS, so that operators of large databases can build it ahead (CONCURRENTLY)")
		}
	}
	return wrong
}

// "First expand, then contract" (CONTRIBUTING.md).
func TestMigrationsExpand(t *testing.T) {
	found, numbers := 0, map[string]string{}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".sql") {
			return
		}
		found++
		number, _, _ := strings.Cut(path.Base(name), "_")
		if number = path.Dir(name) + " " + number; numbers[number] != "" {
			t.Errorf("%s has the number of %s: take the next one", name, numbers[number])
		}
		numbers[number] = name
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range expands(string(text)) {
			t.Errorf("%s: %s", name, wrong)
		}
	})
	if found == 0 {
		t.Error("found no migrations")
	}
}

func TestContractionsAreFound(t *testing.T) {
	for _, text := range []string{
		"DROP TABLE a;", "ALTER TABLE a DROP COLUMN b;", "ALTER TABLE a RENAME TO b;", "ALTER TABLE a rename column b to c;", "ALTER TABLE a ALTER COLUMN b SET NOT NULL;",
		"ALTER TABLE a ADD COLUMN b BIGINT NOT NULL;", "CREATE INDEX b ON a (c);", "CREATE UNIQUE INDEX IF NOT EXISTS b ON a (c);", "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0);", "TRUNCATE a;",
	} {
		if expands("-- +goose Up\n"+text) == nil {
			t.Errorf("%s passes", text)
		}
	}
	for _, text := range []string{
		"CREATE TABLE a (b BIGINT NOT NULL);\nCREATE UNIQUE INDEX b ON a (c);", "ALTER TABLE a ADD COLUMN b BIGINT NOT NULL DEFAULT 0;", "CREATE INDEX IF NOT EXISTS b ON a (c);",
		"-- DROP TABLE a;", "-- contract: needs 7\nDROP TABLE a;",
	} {
		if wrong := expands("-- +goose Up\n" + text); wrong != nil {
			t.Errorf("%s: %v", text, wrong)
		}
	}
}

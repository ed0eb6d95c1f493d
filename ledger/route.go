package ledger

// The bounds of a route.
const (
	maxRoute    = 160
	maxSegments = 16
	// maxWord is the longest segment that is taken for a word. Longer ones carry keys.
	maxWord = 32
)

// Route makes one name of all paths that differ in ids only: /rest/v1.0/projects/{id}. A
// segment stays where it looks like a word of an API: letters, "_", "-" and a version's
// digits and dots. All else becomes {id}, and what is too long ends in "…".
func Route(path string) string {
	var buf [maxRoute + 16]byte
	return string(appendRoute(buf[:0], path))
}

// appendRoute appends the route of a path to b.
func appendRoute(b []byte, path string) []byte {
	start := 0
	for segments := 0; start < len(path); segments++ {
		if path[start] == '/' {
			start++
		}
		end := start
		for end < len(path) && path[end] != '/' {
			end++
		}
		segment := path[start:end]
		start = end
		if segment == "" {
			continue
		}
		if segments == maxSegments || len(b)+len(segment)+1 > maxRoute && isWord(segment) || len(b)+5 > maxRoute {
			return append(b, "/…"...)
		}
		b = append(b, '/')
		if isWord(segment) {
			b = append(b, segment...)
		} else {
			b = append(b, "{id}"...)
		}
	}
	if len(b) == 0 {
		b = append(b, '/')
	}
	return b
}

// isWord says whether a segment is a word or a version, and not an id.
func isWord(segment string) bool {
	if len(segment) > maxWord {
		return false
	}
	if isVersion(segment) {
		return true
	}
	for i := range len(segment) {
		switch c := segment[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// isVersion knows v1.0 and v2.
func isVersion(segment string) bool {
	if len(segment) < 2 || len(segment) > 6 || segment[0] != 'v' {
		return false
	}
	for i := 1; i < len(segment); i++ {
		if c := segment[i]; (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

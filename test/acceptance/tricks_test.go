package acceptance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// raw sends bytes to a door as they are and reads one answer.
func raw(t *testing.T, addr, request string) answer {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	return answer{resp.StatusCode, resp.Header, body, call{Method: "raw", URL: fmt.Sprintf("%.300q", head)}}
}

// lines is a request without a body: its request line and header lines.
func lines(requestLine, token string, headers ...string) string {
	return requestLine + " HTTP/1.1\r\nHost: api.procore.com\r\nConnection: close\r\nAuthorization: Bearer " + token + "\r\n" +
		strings.Join(append(headers, "", ""), "\r\n")
}

// No spelling of another path is taken for an exempt one, and no spelling of an exempt
// path leads elsewhere: without the header none of these calls is answered.
func TestPathsAroundTheExemptList(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	for _, path := range []string{
		"//rest/v1.0/me", "/rest//v1.0/me", "/rest/v1.0//me", "/rest/v1.0/me/", "/rest/v1.0/me//", "/./rest/v1.0/me", "/rest/./v1.0/me",
		"/rest/v1.0/../v1.0/me", "/rest/v1.0/x/../me", "/rest/v1.0/me/.", "/rest/v1.0/me/..", "/rest/v1.0/me/../projects", "/rest/v1.0/companies/../projects",
		"/../rest/v1.0/me", "/rest/v1.0/me/..%2fprojects", "/rest/v1.0/me%2f..%2fprojects", "/rest/v1.0/me%2F", "/rest%2fv1.0%2fme", "/rest/v1.0/%6de",
		"/rest/v1.0/me%00", "/rest/v1.0/me%20", "/rest/v1.0/me%0d%0aX:%20y", "/rest/v1.0/%2e%2e/v1.0/me", "/rest/v1.0/.%2e/projects", "/rest/v1.0/me%252f..",
		"/rest/v1.0/me;x=1", "/rest/v1.0/me;/../projects", `/rest/v1.0/me\..\projects`, `/rest/v1.0\me`, "/rest/v1.0/me%5c..%5cprojects",
		"/REST/v1.0/me", "/rest/V1.0/me", "/rest/v1.0/ME", "/rest/v1.0/Companies", "/rest/v1.0/me.json", "/rest/v01.0/me", "/rest/v1.0/companies/1/..",
		"/vapid/me", "/vapid/../rest/v1.0/projects", "/rest/v1.0/projects/..;/me", "/rest/v1.0/me,", "/rest/v1.0/me&x", "/rest/v1.0/m\u0435",
		"*", "rest/v1.0/me", "http://api.procore.com/rest/v1.0/projects", "http://127.0.0.1/rest/v1.0//me", "http:///rest/v1.0/me",
	} {
		got := raw(t, d.apiAddr(), lines("GET "+path, token))
		if got.Status < 400 || got.Status == 404 || got.Status >= 500 {
			t.Errorf("%v; want a refusal", got)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "get", "GETX", "CONNECT", "TRACE", "OPTIONS"} {
		got := raw(t, d.apiAddr(), lines(method+" /rest/v1.0/me", token, "Content-Length: 0"))
		if got.Status < 400 || got.Status >= 500 {
			t.Errorf("%v; want a refusal", got)
		}
	}
	// The query isn't part of the path.
	raw(t, d.apiAddr(), lines("GET /rest/v1.0/me?company_id=1&x=/../projects", token)).want(t, 200)
	// An absolute target names the same call (RFC 9112 section 3.2.2).
	absolute := raw(t, d.apiAddr(), lines("GET http://api.procore.com/rest/v1.0/me", token))
	if absolute.Status != 200 && absolute.Status != 400 {
		t.Errorf("%v; want 200 or 400", absolute)
	}
}

// The same tricks with the header of one company: no other company's data is reached.
func TestPathsToAnotherCompany(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	mine, other := d.in(t, "US01").ID, d.in(t, "US02").ID
	for _, path := range []string{
		"/rest/v1.0/companies/%d", "/rest/v1.0/companies/%d/users", "/rest/v1.3/companies/%d/users", "/rest/v1.0/projects?company_id=%d", "/vapid/projects?company_id=%d",
		"/rest/v1.0/companies/" + strconv.FormatInt(mine, 10) + "/../%d", "/rest/v1.0/companies/" + strconv.FormatInt(mine, 10) + "/..%%2f%d", "/rest/v1.0/companies/0%d",
		"/rest/v1.0/projects?company_id=" + strconv.FormatInt(mine, 10) + "&company_id=%d", "/rest/v1.0/projects?company%%5fid=%d", "/rest/v1.0/projects?company_id=+%d",
	} {
		got := raw(t, d.apiAddr(), lines("GET "+fmt.Sprintf(path, other), token, fmt.Sprintf("Procore-Company-Id: %d", mine)))
		if got.Status < 400 || got.Status >= 500 {
			t.Errorf("%v; want a refusal", got)
		}
	}
}

// "The header is read strictly: one value, decimal, positive, at most 2^63-1. Two values,
// signs, spaces inside, hex, commas: 400 with a reason."
func TestOddCompanyHeaders(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	mine := strconv.FormatInt(d.in(t, "EU01").ID, 10)
	other := strconv.FormatInt(d.in(t, "US01").ID, 10)
	const name = "Procore-Company-Id: "
	for _, headers := range [][]string{
		{name + mine, name + other}, {name + mine, name + mine}, {name + mine, "procore-company-id: " + other}, {name, name + mine},
		{name + mine + "," + other}, {name + mine + ", " + mine}, {name + "+" + mine}, {name + "-" + mine}, {name + "-1"}, {name + "0"}, {name + "00"},
		{name + "0x10"}, {name + "1e3"}, {name + mine[:3] + " " + mine[3:]}, {name + mine[:3] + "\t" + mine[3:]}, {name + "\"" + mine + "\""}, {name + "null"},
		{name + "9223372036854775808"}, {name + "18446744073709551617"}, {name + strings.Repeat("9", 1000)}, {name + strings.Repeat("0", 100) + mine},
		{name}, {name + "   "}, {name + "\u0661"}, {name + mine + ".0"}, {name + mine + ";"}, {name + mine + "\x00"}, {name + mine + "\x0b"},
		{"Procore-Company-Id : " + mine}, {name + mine[:3], " " + mine[3:]},
	} {
		for _, path := range []string{"/rest/v1.0/projects", "/rest/v1.0/me"} { // where it is required, and where it isn't
			got := raw(t, d.apiAddr(), lines("GET "+path, token, headers...))
			if got.Status != 400 {
				t.Errorf("%q: %v; want 400", headers, got)
			}
		}
	}
	// A folded line belongs to the header before it (RFC 9112 section 5.2): it names no company.
	if got := raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", token, "X-A: b", " Procore-Company-Id: "+mine)); got.Status != 400 {
		t.Errorf("a folded line: %v; want 400", got)
	}
	got := raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", token, name+mine, name+other)).wantCode(t, 400, "invalid_company_header")
	if !bytes.Contains(got.Body, []byte("2 times")) {
		t.Errorf("the reason isn't told: %v", got)
	}
	// Spaces around a value are no part of it (RFC 9110 section 5.5), names have no case.
	raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", token, "pRoCoRe-cOmPaNy-iD: \t "+mine+" \t ")).want(t, 200)
	raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", token, name+"000"+mine)).want(t, 200)
	raw(t, d.apiAddr(), lines("GET /rest/v1.0/projects", token, name+"9223372036854775807")).wantCode(t, 403, "company_forbidden")
}

// "A client can't remove or forge it or our internal headers through Connection: or odd
// spellings."
func TestForgedHeaders(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	mine, other := d.in(t, "EU01"), d.in(t, "US01")
	header := fmt.Sprintf("Procore-Company-Id: %d", mine.ID)
	show := fmt.Sprintf("GET /rest/v1.0/companies/%d", mine.ID)
	for _, headers := range [][]string{
		{"Connection: close, Procore-Company-Id"}, {"Connection: close, Authorization"}, {"Connection: close, Mpr-Epoch, X-Request-Id"},
		{fmt.Sprintf("Procore_Company_Id: %d", other.ID)}, {fmt.Sprintf("procore-company_id: %d", other.ID)},
		{"Mpr-Epoch: 999"}, {"mpr_epoch: 999"}, {"MPR-EPOCH: 0", "Mpr-Epoch: 7"}, {"Mpr-Region: US01"}, {"Mpr-Company: 1", "Mpr-User: 1"},
		{"X-Forwarded-Host: evil.example"}, {"X-Forwarded-Proto: gopher"}, {"Forwarded: host=evil.example;proto=https"}, {"X-Original-Url: /rest/v1.0/me"},
		{"X-Http-Method-Override: DELETE"}, {"Keep-Alive: Procore-Company-Id"}, {"Trailer: Procore-Company-Id"}, {"Te: trailers"}, {"Upgrade: h2c", "Http2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"},
	} {
		got := raw(t, d.apiAddr(), lines(show, token, append(headers, header)...))
		if got.Status == 400 {
			continue // refused for its oddity: safe too
		}
		if o := got.want(t, 200).object(t); o.ID != mine.ID || o.Name != mine.Name {
			t.Errorf("%q: %v; want company %d", headers, got, mine.ID)
		}
		if strings.Contains(fmt.Sprint(got.Header), "evil.example") {
			t.Errorf("%q: the answer's header believes it: %v", headers, got.Header)
		}
	}
	// Pages lead to the host that was called, not to one that the client made up.
	page := raw(t, d.apiAddr(), lines("GET /rest/v1.0/companies?per_page=1", token, "X-Forwarded-Host: evil.example")).want(t, 200)
	if link := page.Header.Get("Link"); strings.Contains(link, "evil.example") {
		t.Errorf("the list links to %s", link)
	}
	// Without the header, none of the other spellings stands in for it.
	for _, headers := range [][]string{
		{fmt.Sprintf("Procore_Company_Id: %d", mine.ID)}, {fmt.Sprintf("X-Procore-Company-Id: %d", mine.ID)}, {fmt.Sprintf("Company-Id: %d", mine.ID)},
		{"Mpr-Company-Id: 1", "Mpr-Epoch: 1"}, {fmt.Sprintf("Cookie: Procore-Company-Id=%d", mine.ID)},
	} {
		raw(t, d.apiAddr(), lines(show, token, headers...)).wantCode(t, 400, "missing_company_header")
	}
}

// Requests that two servers could read differently are refused, or read in one way.
func TestSmuggling(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	at := d.in(t, "EU01").ID
	head := "POST /rest/v1.0/projects HTTP/1.1\r\nHost: api.procore.com\r\nConnection: close\r\nContent-Type: application/json\r\n" +
		"Authorization: Bearer " + token + "\r\n" + fmt.Sprintf("Procore-Company-Id: %d\r\n", at)
	const hidden = "GET /rest/v1.0/smuggled HTTP/1.1\r\nHost: api.procore.com\r\n\r\n"
	for name, rest := range map[string]string{
		"both lengths":          "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two lengths":           "Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + hidden,
		"a signed length":       "Content-Length: +2\r\n\r\n{}" + hidden,
		"an unknown coding":     "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"coding twice":          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden,
		"a bad chunk":           "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a huge chunk":          "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
		"two hosts":             "Host: login.procore.com\r\nContent-Length: 2\r\n\r\n{}",
		"a space in a name":     "Content-Length : 2\r\n\r\n{}",
		"a line feed in a name": "X-A\n: b\r\nContent-Length: 2\r\n\r\n{}",
		"two authorizations":    "Authorization: Bearer " + token + "x\r\nContent-Length: 2\r\n\r\n{}",
	} {
		got := raw(t, d.apiAddr(), head+rest)
		if got.Status < 400 || got.Status >= 500 && got.Status != 501 {
			t.Errorf("%s: %v; want a refusal", name, got)
		}
	}
	// All that left no trace: the door answers the next one.
	call{URL: d.apiURL("/rest/v1.0/projects"), Token: token, Company: at}.send(t).want(t, 200)
}

// One door serves one purpose.
func TestHostsAndDoors(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	client := d.hostsClient(t)
	call{Client: client, URL: "https://api.procore.com/rest/v1.0/me", Token: token}.send(t).want(t, 200)
	a := call{Client: client, URL: "https://login.procore.com/rest/v1.0/me", Token: token}.send(t)
	if a.Status != 404 {
		t.Errorf("the login door serves the API: %v", a)
	}
	// The certificate's host and the Host header must fit (RFC 9110 section 15.5.20).
	for host, status := range map[string]int{"evil.example": 421, "api.procore.com.evil.example": 421, "api-procore.com": 421} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.procore.com/rest/v1.0/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != status {
			t.Errorf("Host %s: %s, want %d", host, resp.Status, status)
		}
	}
}

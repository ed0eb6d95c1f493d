package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// missingHeader is the seed's error message, to the letter.
const missingHeader = `Missing Procore-Company-Id header!
Each call your application makes to the Procore API must contain a request header that includes the Procore-Company-Id field.
This request header field specifies the id of the company into which you are making the call.`

// curl runs the real curl with these arguments and nothing else but what keeps it quiet
// and tells the status. It knows of mpr what its environment says: the proxy and the CA.
func (d *dev) curl(t *testing.T, args ...string) answer {
	t.Helper()
	need(t, "curl")
	body := filepath.Join(t.TempDir(), "body")
	cmd := exec.CommandContext(t.Context(), "curl", append(args, "--silent", "--show-error", "--output", body, "--write-out", "%{http_code}")...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"HTTPS_PROXY=" + d.Proxy, "SSL_CERT_FILE=" + d.CA, "CURL_CA_BUNDLE=" + d.CA,
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %q: %v", args, err)
	}
	status, err := strconv.Atoi(string(out))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(body)
	if err != nil && !os.IsNotExist(err) { // curl makes no file for an empty body
		t.Fatal(err)
	}
	return answer{Status: status, Body: b, call: call{Method: "curl", URL: strings.Join(args, " ")}}
}

// listProjects is the seed's curl call to the letter, with the id of a company and a
// token in the places that the seed leaves open:
//
//	curl -H "Authorization: Bearer <access token>” -H "Procore-Company-Id: xxxxxxxxx"
//	-X GET https://api.procore.com/rest/v1.0/projects?company_id=xxxxxxxxx
func (d *dev) listProjects(t *testing.T, token string, company int64) answer {
	t.Helper()
	id := strconv.FormatInt(company, 10)
	return d.curl(t, "-H", "Authorization: Bearer "+token, "-H", "Procore-Company-Id: "+id,
		"-X", "GET", "https://api.procore.com/rest/v1.0/projects?company_id="+id)
}

// curlToken gets a token as the public examples do: curl -F, at login.procore.com.
func (d *dev) curlToken(t *testing.T, fields ...string) tokens {
	t.Helper()
	var args []string
	for _, field := range fields {
		args = append(args, "-F", field)
	}
	var p tokens
	d.curl(t, append(args, "-X", "POST", "https://login.procore.com/oauth/token")...).want(t, 200).into(t, &p)
	return p
}

func TestTheSeedsCallInAllThreeRegions(t *testing.T) {
	d := shared(t)
	web := d.app(t, "web")
	p := d.curlToken(t, "grant_type=authorization_code", "client_id="+web.ClientID, "client_secret="+web.ClientSecret,
		"code="+d.code(t, d.everywhereUser(t), web, web.redirectURI(t)), "redirect_uri="+web.redirectURI(t))
	if p.Type != "bearer" || p.ExpiresIn != 5400 || p.Refresh == "" || p.CreatedAt == 0 {
		t.Errorf("the token answer is %+v", p)
	}
	seen := map[int64]string{}
	for number, c := range map[int64]company{0: d.in(t, "US01"), 16: d.in(t, "US02"), 17: d.in(t, "EU01")} {
		id := strconv.FormatInt(c.ID, 10)
		// "US01, the default region, has number 0 and small ids": the number stands in
		// the high bits of the company's id and of all that is made for it.
		made := d.curl(t, "-H", "Authorization: Bearer "+p.Access, "-H", "Procore-Company-Id: "+id,
			"-H", "Content-Type: application/json", "-d", `{"company_id":`+id+`,"project":{"name":"Made by curl"}}`,
			"https://api.procore.com/rest/v1.0/projects").want(t, 201).object(t)
		if c.ID>>45 != number || made.ID>>45 != number {
			t.Errorf("%s: company %d, project %d; want ids of the block %d", c.Region, c.ID, made.ID, number)
		}
		projects := d.listProjects(t, p.Access, c.ID).want(t, 200).objects(t)
		if !slices.Contains(ids(projects), made.ID) {
			t.Errorf("%s: the new project %d is not in the list %v", c.Region, made.ID, projects)
		}
		for _, project := range projects {
			if other, twice := seen[project.ID]; twice {
				t.Errorf("project %d is listed in %s and in %s", project.ID, other, c.Region)
			}
			seen[project.ID] = c.Region
		}
	}
}

func TestServiceAccountsByCurl(t *testing.T) {
	d := shared(t)
	for _, kind := range []string{"traditional", "developer_managed"} {
		a := d.app(t, kind)
		p := d.curlToken(t, "grant_type=client_credentials", "client_id="+a.ClientID, "client_secret="+a.ClientSecret)
		if p.Refresh != "" {
			t.Errorf("%s: client_credentials answered a refresh token", kind)
		}
		for _, c := range d.everywhere(t) {
			status := 403 // "App is not connected to this company"
			if slices.Contains(a.Companies, c.ID) {
				status = 200
			}
			d.listProjects(t, p.Access, c.ID).want(t, status)
		}
	}
}

// "If you do not supply the required request header, the following error message is
// displayed."
func TestMissingHeader(t *testing.T) {
	d := shared(t)
	token := "Authorization: Bearer " + d.userTokens(t).Access
	company := strconv.FormatInt(d.in(t, "US01").ID, 10)
	const api = "https://api.procore.com"
	for _, args := range [][]string{
		// "even though an endpoint might require the company_id as a path or query
		// parameter, MPR still requires you to include the Procore-Company-Id field"
		{api + "/rest/v1.0/projects?company_id=" + company},
		{api + "/rest/v1.0/companies/" + company + "/users"},
		{api + "/rest/v1.0/projects"},
		{api + "/vapid/projects?company_id=" + company},
		{"-X", "POST", api + "/rest/v1.0/companies"},
		{"-X", "DELETE", api + "/rest/v1.0/me"},
		{api + "/rest/v1.1/companies"},
		{api + "/rest/v1.1/me"},
	} {
		var refusal struct{ Code, Message string }
		d.curl(t, append([]string{"-H", token}, args...)...).want(t, 400).into(t, &refusal)
		if refusal.Code != "missing_company_header" || refusal.Message != missingHeader {
			t.Errorf("%v: %+v", args, refusal)
		}
		text := d.curl(t, append([]string{"-H", token, "-H", "Accept: text/plain"}, args...)...).want(t, 400)
		if got := strings.TrimSuffix(string(text.Body), "\n"); got != missingHeader {
			t.Errorf("%v as text: %q", args, got)
		}
	}
}

// "Note: The following Procore API endpoints do not require a request header containing
// the Procore-Company-Id field: Show User Info - (GET /rest/v1.0/me), List Companies -
// (GET /rest/v1.0/companies)"
func TestExemptCalls(t *testing.T) {
	d := shared(t)
	u := d.everywhereUser(t)
	token := "Authorization: Bearer " + d.userTokens(t).Access
	me := d.curl(t, "-H", token, "https://api.procore.com/rest/v1.0/me").want(t, 200).object(t)
	if me.Login != u.Login || me.ID == 0 {
		t.Errorf("/rest/v1.0/me answered %+v; want %s", me, u.Login)
	}
	listed := d.curl(t, "-H", token, "https://api.procore.com/rest/v1.0/companies").want(t, 200).objects(t)
	for _, c := range d.everywhere(t) {
		if !slices.ContainsFunc(listed, func(o object) bool { return o.ID == c.ID && o.Name == c.Name }) {
			t.Errorf("List Companies lacks %+v: %v", c, listed)
		}
	}
	// The header does no harm where it isn't required.
	header := "Procore-Company-Id: " + strconv.FormatInt(d.in(t, "EU01").ID, 10)
	d.curl(t, "-H", token, "-H", header, "https://api.procore.com/rest/v1.0/me").want(t, 200)
	d.curl(t, "-H", token, "-H", header, "https://api.procore.com/rest/v1.0/companies").want(t, 200)
}

// "The exception to this rule is when you are using Service Accounts with the OAuth 2.0
// Client Credentials grant type."
func TestServiceAccountsNeedTheHeaderEverywhere(t *testing.T) {
	d := shared(t)
	for _, kind := range []string{"traditional", "developer_managed"} {
		a := d.app(t, kind)
		token := "Authorization: Bearer " + d.machineToken(t, a)
		header := "Procore-Company-Id: " + strconv.FormatInt(a.Companies[0], 10)
		for _, path := range []string{"/rest/v1.0/me", "/rest/v1.0/companies"} {
			var refusal struct{ Code, Message string }
			d.curl(t, "-H", token, "https://api.procore.com"+path).want(t, 400).into(t, &refusal)
			if refusal.Code != "missing_company_header" || refusal.Message != missingHeader {
				t.Errorf("%s %s: %+v", kind, path, refusal)
			}
			d.curl(t, "-H", token, "-H", header, "https://api.procore.com"+path).want(t, 200)
		}
		listed := d.curl(t, "-H", token, "-H", header, "https://api.procore.com/rest/v1.0/companies").objects(t)
		got, want := ids(listed), slices.Clone(a.Companies)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: List Companies answered %v, want %v", kind, got, want)
		}
	}
}

// "non-compliant applications will continue to function as expected for existing Procore
// Customers until June 30, 2019": that day is over, and the answer says what to change.
func TestTheLegacyHostIsOver(t *testing.T) {
	d := shared(t)
	token := d.userTokens(t).Access
	id := strconv.FormatInt(d.in(t, "US01").ID, 10)
	gone := d.curl(t, "-H", "Authorization: Bearer "+token, "https://app.procore.com/rest/v1.0/projects?company_id="+id).want(t, 410)
	for _, words := range []string{"June 30, 2019", "https://login.procore.com", "https://api.procore.com", "Procore-Company-Id"} {
		if !strings.Contains(string(gone.Body), words) {
			t.Errorf("%q isn't said in %v", words, gone)
		}
	}
}

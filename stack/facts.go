package stack

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"mpr/company"
	"mpr/config"
	"mpr/control"
)

// Facts are what a newcomer, a script or a test suite needs of a running `mpr dev`. As
// JSON they are an interface: fields are added, never changed.
type Facts struct {
	Environments []EnvironmentFacts `json:"environments"`
	// TLS is the address that answers for every host name of the system.
	TLS string `json:"tls"`
	// Proxy is the URL for HTTPS_PROXY.
	Proxy string `json:"proxy"`
	// CA is the file with the certificate of the development CA.
	CA        string         `json:"ca"`
	Admin     AdminFacts     `json:"admin"`
	Users     []UserFacts    `json:"users"`
	Apps      []AppFacts     `json:"apps"`
	Companies []CompanyFacts `json:"companies"`

	data string // the data folder
}

// EnvironmentFacts are the addresses of an environment's doors.
type EnvironmentFacts struct {
	Name   string `json:"name"`
	Login  string `json:"login"`
	API    string `json:"api"`
	Legacy string `json:"legacy,omitempty"`

	loginHost, apiHost, legacyHost string
}

// AdminFacts say where the admin API is and where its token is kept.
type AdminFacts struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file,omitempty"`
}

// UserFacts are a demo user.
type UserFacts struct {
	Login     string       `json:"login"`
	Password  string       `json:"password"`
	Companies []company.ID `json:"companies"`
	// Role is what the user may do as an operator; "" for nothing.
	Role string `json:"role,omitempty"`
}

// AppFacts are a demo app. An installed app is a public client and has no secret.
type AppFacts struct {
	Name         string       `json:"name"`
	Kind         string       `json:"kind"`
	ClientID     string       `json:"client_id"`
	ClientSecret string       `json:"client_secret"`
	RedirectURIs []string     `json:"redirect_uris"`
	Companies    []company.ID `json:"companies"`
	// Sandbox is what the app has in the development sandbox; nil where there is none.
	Sandbox *control.Sandbox `json:"sandbox,omitempty"`
}

// CompanyFacts are a demo company.
type CompanyFacts struct {
	ID     company.ID     `json:"id"`
	Name   string         `json:"name"`
	Region company.Region `json:"region"`
}

// writeJSON prints the facts as one line.
func (f *Facts) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(f)
}

// writeText prints the facts for a person, with lines to paste.
func (f *Facts) writeText(w io.Writer, header string) error {
	var b strings.Builder
	env := f.Environments[0]
	b.WriteString("\nmpr dev is ready. Ctrl-C stops it; the data stays.\n\nDOORS\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, e := range f.Environments {
		fmt.Fprintf(t, "  %s\tlogin\t%s\thttps://%s\n", e.Name, e.Login, e.loginHost)
		fmt.Fprintf(t, "  \tapi\t%s\thttps://%s\n", e.API, e.apiHost)
		if e.Legacy != "" {
			fmt.Fprintf(t, "  \tlegacy\t%s\thttps://%s\n", e.Legacy, e.legacyHost)
		}
	}
	fmt.Fprintf(t, "  admin API\t\t%s\ttoken in %s\n", f.Admin.URL, f.Admin.TokenFile)
	fmt.Fprintf(t, "  console\t\t%s/console/\tfor developers %s/developers/\n", f.Admin.URL, f.Admin.URL)
	_ = t.Flush() // a strings.Builder takes everything

	b.WriteString("\nCOMPANIES\n")
	t.Init(&b, 0, 0, 2, ' ', 0)
	for _, c := range f.Companies {
		fmt.Fprintf(t, "  %d\t%s\t%s\n", c.ID, c.Region, c.Name)
	}
	_ = t.Flush()

	b.WriteString("\nUSERS\n")
	t.Init(&b, 0, 0, 2, ' ', 0)
	for _, u := range f.Users {
		role := ""
		if u.Role != "" {
			role = "\toperator with the role " + u.Role
		}
		fmt.Fprintf(t, "  %s\tpassword %s\tcompanies %s%s\n", u.Login, u.Password, joinIDs(u.Companies), role)
	}
	_ = t.Flush()

	b.WriteString("\nAPPS\n")
	t.Init(&b, 0, 0, 2, ' ', 0)
	for _, a := range f.Apps {
		fmt.Fprintf(t, "  %s\t%s\n", a.Name, a.Kind)
		fmt.Fprintf(t, "  \tclient_id\t%s\n", a.ClientID)
		if a.ClientSecret != "" {
			fmt.Fprintf(t, "  \tclient_secret\t%s\n", a.ClientSecret)
		}
		for _, uri := range a.RedirectURIs {
			fmt.Fprintf(t, "  \tredirect_uri\t%s\n", uri)
		}
		fmt.Fprintf(t, "  \tcompanies\t%s\n", joinIDs(a.Companies))
		if box := a.Sandbox; box != nil && box.ClientID != "" {
			fmt.Fprintf(t, "  \tin the %s\tclient_id %s\n", box.Environment, box.ClientID)
			if box.ClientSecret != "" {
				fmt.Fprintf(t, "  \t\tclient_secret %s\n", box.ClientSecret)
			}
			fmt.Fprintf(t, "  \t\tcompany %d\n", box.Company)
		}
	}
	_ = t.Flush()

	f.writeExamples(&b, env, header)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeExamples prints lines to paste into a shell.
func (f *Facts) writeExamples(b *strings.Builder, env EnvironmentFacts, header string) {
	web, machine := f.app("web"), f.app("developer_managed")
	if web == nil || machine == nil || len(f.Companies) == 0 {
		return
	}
	last := f.Companies[len(f.Companies)-1]
	const access = `sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'`
	const refresh = `sed -n 's/.*"refresh_token":"\([^"]*\)".*/\1/p'`
	fmt.Fprintf(b, `
TRY IT: a service account (client_credentials) and the List Projects call, company in %[1]s
  TOKEN=$(curl -s %[2]s/oauth/token -F grant_type=client_credentials -F client_id=%[3]s -F client_secret=%[4]s | %[5]s)
  curl -H "Authorization: Bearer $TOKEN" -H "%[6]s: %[7]d" -X GET "%[8]s/rest/v1.0/projects?company_id=%[7]d"

TRY IT: a person (authorization_code): open the page, sign in as %[9]s, allow, and paste the code
  %[2]s/oauth/authorize?response_type=code&client_id=%[10]s&redirect_uri=%[11]s
  read -r CODE
  ANSWER=$(curl -s %[2]s/oauth/token -F grant_type=authorization_code -F code=$CODE -F client_id=%[10]s -F client_secret=%[12]s -F redirect_uri=%[11]s); echo "$ANSWER"
  curl -H "Authorization: Bearer $(echo "$ANSWER" | %[5]s)" %[8]s/rest/v1.0/companies

TRY IT: a new pair of tokens (refresh_token)
  curl -s %[2]s/oauth/token -F grant_type=refresh_token -F refresh_token=$(echo "$ANSWER" | %[13]s) -F client_id=%[10]s -F client_secret=%[12]s
`,
		last.Region, env.Login, machine.ClientID, machine.ClientSecret, access, header, last.ID, env.API,
		f.Users[0].Login, web.ClientID, outOfBand, web.ClientSecret, refresh)

	fmt.Fprintf(b, `
PROGRAMS WITH HARD-CODED HOSTS run unmodified through the proxy
  HTTPS_PROXY=%[1]s SSL_CERT_FILE=%[2]s CURL_CA_BUNDLE=%[2]s NODE_EXTRA_CA_CERTS=%[2]s program
  HTTPS_PROXY=%[1]s CURL_CA_BUNDLE=%[2]s curl -H "Authorization: Bearer $TOKEN" -H "%[3]s: %[4]d" -X GET "https://%[5]s/rest/v1.0/projects?company_id=%[4]d"
`, f.Proxy, f.CA, header, last.ID, env.apiHost)
	if strings.HasSuffix(f.TLS, ":443") {
		b.WriteString("\nPROGRAMS THAT KNOW NO PROXY: add these lines to the hosts file\n")
		for _, e := range f.Environments {
			for _, host := range []string{e.loginHost, e.apiHost, e.legacyHost} {
				if host != "" {
					fmt.Fprintf(b, "  127.0.0.1 %s\n", host)
				}
			}
		}
	}
	flag := ""
	if f.data != config.DefaultData {
		flag = fmt.Sprintf(" --data %q", f.data)
	}
	fmt.Fprintf(b, "\nNEXT: mpr company list%[1]s, mpr app list%[1]s, mpr company create --name NAME --region EU01%[1]s, mpr signin%[1]s\n", flag)
}

// outOfBand is the redirect URI of programs that can't be redirected to: the code is
// shown on a page.
const outOfBand = "urn:ietf:wg:oauth:2.0:oob"

func (f *Facts) app(kind string) *AppFacts {
	for i := range f.Apps {
		if f.Apps[i].Kind == kind {
			return &f.Apps[i]
		}
	}
	return nil
}

func joinIDs(ids []company.ID) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = id.String()
	}
	return strings.Join(s, " ")
}

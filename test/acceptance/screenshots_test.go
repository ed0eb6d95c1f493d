//go:build screenshots

package acceptance

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The pictures of the README: a system that has been in use for two weeks.

const (
	picturesDays  = 12
	picturesWidth = 1320
)

var (
	pictureApps      = []string{"Nightly Sync", "Site Diary Export", "Crane Planner", "Payroll Bridge", "Drawing Mirror", "Safety Rounds"}
	pictureCompanies = []string{
		"Alder & Stone", "Baltic Marine Works", "Cedar Ridge Civil", "Delta Crane Hire", "Eastgate Towers", "Falkland Bridges", "Gotthard Tunnelbau", "Harbour Point", "Isar Hochbau",
		"Juniper Housing", "Kestrel Roofing", "Lindenhof Bau", "Meridian Rail", "Northline Energy",
	}
)

func TestScreenshots(t *testing.T) {
	if os.Getenv("MPR_SCREENSHOTS") == "" {
		t.Fatal("say where the pictures go: MPR_SCREENSHOTS=DIR, or run make screenshots")
	}
	last, err := time.Parse(time.DateOnly, asOf)
	if err != nil {
		t.Fatal(err)
	}
	day := func(ago int) []string { return []string{"--as-of", last.AddDate(0, 0, -ago).Format(time.DateOnly)} }
	d := startDev(t, t.TempDir(), day(picturesDays)...)
	var companies []company
	for i, name := range pictureCompanies {
		c := company{Name: name, Region: regions[i%3]}
		c.ID = d.admin(t, "POST", "/companies", map[string]any{"name": name, "region": c.Region, "onboarded": "2016-03-01"}).want(t, 201).object(t).ID
		companies = append(companies, c)
	}
	apps := []app{d.app(t, "developer_managed")}
	for _, name := range pictureApps[1:] {
		a := app{Name: name, Kind: "developer_managed"}
		var made struct {
			ClientID     string `json:"client_id"`
			ClientSecret string `json:"client_secret"`
		}
		d.admin(t, "POST", "/service-accounts", map[string]any{"name": name, "kind": a.Kind}).want(t, 201).into(t, &made)
		a.ClientID, a.ClientSecret = made.ClientID, made.ClientSecret
		apps = append(apps, a)
	}
	for i := range apps {
		for _, c := range companies {
			d.install(t, &apps[i], c.ID)
		}
	}
	for ago := picturesDays; ago >= 0; ago-- {
		if ago < picturesDays {
			d.Stop(t)
			d.args = day(ago)
			d.Restart(t)
		}
		for i, a := range apps {
			d.pictureCalls(t, a, i, ago, companies)
		}
	}
	d.mpr(t, "brownout", "add", "rehearsal-1", "--from", "2019-05-06T14:00:00Z", "--to", "2019-05-08T15:00:00Z", "--share", "0.1", "--note", "the first hours of it")
	d.mpr(t, "brownout", "add", "rehearsal-2", "--from", "2019-06-03T08:00:00Z", "--to", "2019-06-07T18:00:00Z", "--share", "0.5")
	d.mpr(t, "app", "owner", "add", apps[1].ClientID, d.Users[1].Login)
	d.takePictures(t, apps, companies)
}

// pictureCalls are the calls of an app in a day: some apps mend their ways, some don't.
func (d *dev) pictureCalls(t *testing.T, a app, i, ago int, companies []company) {
	t.Helper()
	token := d.machineToken(t, a)
	legacy, bare := []int{40, 6, 26, 3 * ago, 12 - ago, 0}[i], []int{8, 14, 0, 2 * ago, 0, 0}[i]
	for n := range 60 {
		c := companies[(n+ago)%len(companies)]
		call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", c.ID), Token: token, Company: c.ID}.send(t).want(t, 200)
	}
	old := companies[0].ID // in the default region
	for n := range legacy + rand.IntN(1+legacy/4) {
		path := []string{"/rest/v1.0/projects", "/rest/v1.0/projects", fmt.Sprintf("/rest/v1.0/companies/%d/users", old)}[n%3]
		call{URL: d.Environments[0].Legacy + path + "?company_id=" + strconv.FormatInt(old, 10), Token: token}.send(t)
	}
	for range bare {
		call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", old), Token: token}.send(t)
	}
}

func (d *dev) takePictures(t *testing.T, apps []app, companies []company) {
	t.Helper()
	stop := d.pictureTraffic(t, apps, companies)
	defer stop()
	b := newBrowser(t, chromedp.WindowSize(picturesWidth, 860), chromedp.Flag("blink-settings", "preferredColorScheme=1"))
	c := d.openConsole(t, b, d.Users[0], "/console/production/")
	moving, planned := companies[1].ID, companies[4].ID
	d.admin(t, "POST", "/moves", map[string]any{"company": moving, "to": "EU01", "by": d.Users[0].Login, "not_before": time.Now().Add(time.Hour)}).want(t, 202)
	d.admin(t, "POST", "/moves", map[string]any{"company": companies[3].ID, "to": "US02", "by": d.Users[0].Login, "not_before": time.Now().Add(time.Hour)}).want(t, 202)
	eventually(t, 3*time.Minute, func() (bool, string) { // a minute of traffic, for the lines of the last minute
		var o struct {
			Regions []struct{ Traffic struct{ Course []float64 } }
		}
		d.admin(t, "GET", "/overview", nil).want(t, 200).into(t, &o)
		return len(o.Regions) == 3 && !slices.ContainsFunc(o.Regions, func(r struct{ Traffic struct{ Course []float64 } }) bool { return r.Traffic.Course[0] == 0 }), fmt.Sprint(o)
	})
	c.picture(t, "overview", "/console/production/")
	c.picture(t, "company", "/console/production/companies/%d?to=EU01", planned)
	c.picture(t, "apps", "/console/production/apps")
	c.picture(t, "app", "/console/production/apps/%s", apps[1].ClientID)
	c.picture(t, "policy", "/console/production/policy")
	dark := newBrowser(t, chromedp.WindowSize(picturesWidth, 860), chromedp.Flag("blink-settings", "preferredColorScheme=0"))
	d.openConsole(t, dark, d.Users[0], "/console/production/").picture(t, "overview-dark", "/console/production/")
	bob := newBrowser(t, chromedp.WindowSize(picturesWidth, 860), chromedp.Flag("blink-settings", "preferredColorScheme=1"))
	d.openConsole(t, bob, d.Users[1], "/developers/").picture(t, "portal", "/developers/apps/%s", url.PathEscape(apps[1].ClientID))
}

// pictureTraffic calls all the time, until it is stopped.
func (d *dev) pictureTraffic(t *testing.T, apps []app, companies []company) (stop func()) {
	t.Helper()
	token := d.machineToken(t, apps[5])
	over := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := rand.IntN(100); ; n++ {
				c := companies[(n*n+rand.IntN(3))%len(companies)]
				_, _ = call{URL: d.apiURL("/rest/v1.0/projects?company_id=%d", c.ID), Token: token, Company: c.ID}.do(t.Context())
				select {
				case <-over:
					return
				case <-time.After(time.Duration(30+rand.IntN(120)+int(time.Now().Unix()%9)*12) * time.Millisecond):
				}
			}
		})
	}
	return func() { close(over); all.Wait() }
}

// picture writes a picture of a page, with few colours: such files are small.
func (c *console) picture(t *testing.T, name, format string, args ...any) {
	t.Helper()
	c.open(t, format, args...)
	eventually(t, stepWithin, func() (bool, string) {
		return eval[bool](t, c.browser, `!document.body.hasAttribute("data-live") || document.documentElement.dataset.state === "on"`), "the page isn't live"
	})
	full := read(t, c.browser, chromedp.FullScreenshot(100))
	source, err := png.Decode(bytes.NewReader(full))
	if err != nil {
		t.Fatal(err)
	}
	bounds := source.Bounds()
	if most := 1500; bounds.Dy() > most {
		bounds.Max.Y = bounds.Min.Y + most
	}
	small := image.NewPaletted(bounds, palette(source, bounds))
	draw.Draw(small, bounds, source, bounds.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("MPR_SCREENSHOTS")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// palette is the colours that a picture has most of; those that nobody tells apart are one.
func palette(source image.Image, bounds image.Rectangle) color.Palette {
	type sum struct{ r, g, b, n int }
	alike := map[[3]uint32]*sum{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := source.At(x, y).RGBA()
			key := [3]uint32{r >> 12, g >> 12, b >> 12}
			if alike[key] == nil {
				alike[key] = &sum{}
			}
			s := alike[key]
			s.r, s.g, s.b, s.n = s.r+int(r>>8), s.g+int(g>>8), s.b+int(b>>8), s.n+1
		}
	}
	counted := slices.SortedFunc(maps.Values(alike), func(a, b *sum) int { return cmp.Compare(b.n, a.n) })
	var p color.Palette
	for _, s := range counted[:min(len(counted), 200)] {
		p = append(p, color.RGBA{uint8(s.r / s.n), uint8(s.g / s.n), uint8(s.b / s.n), 255})
	}
	// What large areas have stays as it is.
	exact := map[color.RGBA]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y += 3 {
		for x := bounds.Min.X; x < bounds.Max.X; x += 3 {
			r, g, b, _ := source.At(x, y).RGBA()
			exact[color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}]++
		}
	}
	most := slices.SortedFunc(maps.Keys(exact), func(a, b color.RGBA) int { return cmp.Compare(exact[b], exact[a]) })
	for _, c := range most[:min(len(most), 56)] {
		p = append(p, c)
	}
	return p
}

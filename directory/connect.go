package directory

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Servers say where NATS servers are, and what is shown to them. Files are read again for
// each new connection, so that what they hold may be replaced while we run; that of an nkey
// alone names who we are, and is read once.
type Servers struct {
	URLs []string
	// Secret is sent as a token where nothing else is to be shown.
	Secret string
	// Credentials is a file of NATS (.creds), Nkey one with a seed, Password one with the
	// password of User.
	Credentials, Nkey, User, Password string
	// CA is a file with the certificates that those of the servers are signed by, Certificate
	// and Key are our own.
	CA, Certificate, Key string
	// Dialer makes connections in another way, which are secure already; nil for the usual one.
	Dialer nats.CustomDialer
}

// Connect is [Servers.Connect] to servers that take the secret.
func Connect(urls []string, secret, name string) (*nats.Conn, error) {
	return Servers{URLs: urls, Secret: secret}.Connect(name)
}

// Connect connects to a directory server or a cluster. It doesn't fail where none
// answers: the connection is made, and made again, when one does.
func (s Servers) Connect(name string) (*nats.Conn, error) {
	shown, err := s.options()
	if err != nil {
		return nil, fmt.Errorf("connect to the directory at %s: %w", addresses(s.URLs), err)
	}
	l := &link{name: name, servers: addresses(s.URLs)}
	options := append(l.connectOptions(), nats.RetryOnFailedConnect(true))
	conn, err := nats.Connect(strings.Join(s.URLs, ","), append(options, shown...)...)
	if err != nil {
		// The cause may quote an address, and an address may hold a password.
		return nil, fmt.Errorf("connect to the directory at %s: check the addresses, such as nats://host:4222, and what the settings below directory say of credentials and certificates", addresses(s.URLs))
	}
	l.conn.Store(conn)
	return conn, nil
}

// options are what is shown to the servers, and what they must show.
func (s Servers) options() ([]nats.Option, error) {
	for _, file := range []string{s.Credentials, s.Nkey, s.Password, s.CA, s.Certificate, s.Key} {
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil { //nolint:gosec // the operator names it
			return nil, err
		}
	}
	var options []nats.Option
	switch {
	case s.Credentials != "":
		options = append(options, nats.UserCredentials(s.Credentials))
	case s.Nkey != "":
		nkey, err := nats.NkeyOptionFromSeed(s.Nkey)
		if err != nil {
			return nil, fmt.Errorf("%s holds no seed of a user's nkey", s.Nkey) // the cause might show it
		}
		options = append(options, nkey)
	case s.User != "":
		options = append(options, nats.UserInfoHandler(s.userInfo))
	case s.Secret != "":
		options = append(options, nats.Token(s.Secret))
	}
	if s.Dialer != nil { // it is to know the names that certificates are for
		options = append(options, nats.SetCustomDialer(s.Dialer), nats.SkipHostLookup())
	}
	if s.CA != "" {
		options = append(options, nats.RootCAs(s.CA))
	}
	if s.Certificate != "" {
		options = append(options, nats.ClientCert(s.Certificate, s.Key))
	}
	return options, nil
}

// userInfo reads the password; without it the server refuses us, and we try again.
func (s Servers) userInfo() (user, password string) {
	data, err := os.ReadFile(s.Password)
	if err != nil {
		slog.Error("read the directory's password", "error", err)
	}
	return s.User, strings.TrimSpace(string(data))
}

// addresses names servers without the credentials that their URLs may hold.
func addresses(urls []string) string {
	hosts := make([]string, len(urls))
	for i, raw := range urls {
		hosts[i] = "(malformed)"
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			hosts[i] = u.Host
		}
	}
	return strings.Join(hosts, ", ")
}

func (l *link) connectOptions() []nats.Option {
	return append(l.options(),
		nats.Name(l.name),
		nats.MaxReconnects(-1),
		// Credentials that are replaced, and servers that don't know them yet, may disagree for a
		// while: that must not end the connection for good.
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(2*time.Second),
		// What is sent while the server is away should fail, not wait in memory.
		nats.ReconnectBufSize(-1),
	)
}

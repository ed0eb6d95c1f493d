package directory

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

// ServerOptions say how the embedded NATS server runs.
type ServerOptions struct {
	// Dir is where it keeps its data.
	Dir string
	// Listen is the address for other processes, such as 127.0.0.1:4091; empty for none.
	Listen string
	// Secret is what other processes must show.
	Secret string
	// TLS is how others are spoken to, from the first byte on; nil for plain TCP.
	TLS *tls.Config
}

// Server is an embedded NATS server with JetStream. Every write is synced to disk before
// it is acknowledged; NATS' default, every two minutes, would lose acknowledged
// placements with the power.
type Server struct {
	server *natsserver.Server
	secret string
}

const (
	startTimeout = 10 * time.Second
	// handshakeTimeout bounds a handshake with somebody who connects.
	handshakeTimeout = 10 * time.Second
)

// StartServer starts the embedded server. It returns once the server takes connections.
func StartServer(o ServerOptions) (*Server, error) {
	options := &natsserver.Options{
		ServerName: "mpr-directory",
		DontListen: o.Listen == "",
		JetStream:  true,
		StoreDir:   o.Dir,
		SyncAlways: true,
		NoSigs:     true, // signals belong to the process
		MaxPayload: 1 << 20,
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("start the directory server: %w", err)
		}
		if options.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("start the directory server: %w", err)
		}
		if options.Port == 0 {
			options.Port = natsserver.RANDOM_PORT
		}
		if o.Secret == "" {
			return nil, errors.New("start the directory server: it would listen without a secret")
		}
		options.Host, options.Authorization = host, o.Secret
		options.TLSConfig, options.TLSHandshakeFirst, options.TLSTimeout = o.TLS, o.TLS != nil, handshakeTimeout.Seconds()
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("start the directory server: %w", err)
	}
	s.SetLoggerV2(&serverLog{strangers: rate.NewLimiter(1, 20)}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start the directory server: not ready after %s; is its address %q taken, or its folder %s in use?", startTimeout, o.Listen, o.Dir)
	}
	return &Server{s, options.Authorization}, nil
}

// Connect connects within the process.
func (s *Server) Connect(name string) (*nats.Conn, error) {
	options := append((&link{name: name, servers: "this process"}).connectOptions(), nats.InProcessServer(s.server))
	if s.secret != "" {
		options = append(options, nats.Token(s.secret))
	}
	conn, err := nats.Connect("", options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded directory server: %w", err)
	}
	return conn, nil
}

// Addr is the address for other processes; empty where it doesn't listen.
func (s *Server) Addr() string {
	if a := s.server.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// Close stops the server; what was acknowledged stays on disk.
func (s *Server) Close() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// serverLog passes the server's warnings and errors to our log: of those that anybody who connects
// can cause, a few each second.
type serverLog struct{ strangers *rate.Limiter }

func (*serverLog) Noticef(format string, v ...any) {
	slog.Debug("directory server: " + fmt.Sprintf(format, v...))
}
func (*serverLog) Warnf(format string, v ...any) {
	slog.Warn("directory server: " + fmt.Sprintf(format, v...))
}
func (*serverLog) Fatalf(format string, v ...any) {
	slog.Error("directory server: " + fmt.Sprintf(format, v...))
}
func (l *serverLog) Errorf(format string, v ...any) {
	text := "directory server: " + fmt.Sprintf(format, v...)
	if strings.Contains(text, "handshake error") || strings.Contains(text, "authentication error") {
		if !l.strangers.Allow() {
			slog.Debug(text)
			return
		}
		slog.Warn(text)
		return
	}
	slog.Error(text)
}
func (*serverLog) Debugf(string, ...any) {}
func (*serverLog) Tracef(string, ...any) {}

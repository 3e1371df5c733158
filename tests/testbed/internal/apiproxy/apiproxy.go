// Package apiproxy stands between a client and the API server and can answer in its place, with
// an error or not at all. Clients log in with a bearer token, which it passes on; a certificate
// would end here.
package apiproxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"cpg.test/testbed/internal/part"
)

type settings struct {
	listen, control, cert, key, upstream, ca string
}

// Main serves until SIGTERM.
func Main(args []string) int {
	var s settings
	flags := flag.NewFlagSet("apiproxy", flag.ExitOnError)
	flags.StringVar(&s.listen, "listen", "", "address for clients")
	flags.StringVar(&s.control, "control", "", "address of the control server")
	flags.StringVar(&s.cert, "cert", "", "server certificate (PEM)")
	flags.StringVar(&s.key, "key", "", "key of the certificate (PEM)")
	flags.StringVar(&s.upstream, "upstream", "", "URL of the API server")
	flags.StringVar(&s.ca, "ca", "", "CA of the API server's certificate")
	_ = flags.Parse(args)
	if err := run(s); err != nil {
		return part.Fail(err)
	}
	return 0
}

func run(s settings) error {
	upstream, err := url.Parse(s.upstream)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(s.ca)
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s holds no certificate", s.ca)
	}
	// HTTP/2 is off on both sides, so that a connection can be taken over by SPDY or WebSocket.
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
			TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		FlushInterval: -1, // a watch is passed on event by event
	}
	gate := &gate{mode: mode{name: "pass"}, next: proxy}
	if _, err := part.Listen(s.control, gate.routes()); err != nil {
		return err
	}
	server := &http.Server{
		Addr: s.listen, Handler: gate, ErrorLog: slog.NewLogLogger(part.Log().Handler(), slog.LevelInfo),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	ctx, stop := part.Terminated()
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServeTLS(s.cert, s.key); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// gate lets requests through or answers them itself.
type gate struct {
	next http.Handler

	mu       sync.Mutex
	mode     mode
	requests int
	refused  int
}

// mode is what happens to requests.
type mode struct {
	// name is pass, hang, reset or an HTTP status.
	name   string
	status int
	// match limits the mode to requests whose URI contains it.
	match string
	// left is the number of requests that the mode is still for; negative is no limit.
	left int
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch m := g.decide(r); m.name {
	case "pass":
		g.next.ServeHTTP(w, r)
	case "hang":
		<-r.Context().Done()
	case "reset":
		reset(w)
	default:
		refuse(w, m.status)
	}
}

func (g *gate) decide(r *http.Request) mode {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests++
	if g.mode.name == "pass" || g.mode.left == 0 || !strings.Contains(r.URL.RequestURI(), g.mode.match) {
		return mode{name: "pass"}
	}
	g.mode.left--
	g.refused++
	return g.mode
}

// reset drops the connection without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if c, ok := conn.(*tls.Conn); ok {
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.NetConn().Close()
	}
}

// refuse answers as the API server does: with a Status object.
func refuse(w http.ResponseWriter, code int) {
	reasons := map[int]metav1.StatusReason{
		http.StatusUnauthorized:        metav1.StatusReasonUnauthorized,
		http.StatusForbidden:           metav1.StatusReasonForbidden,
		http.StatusNotFound:            metav1.StatusReasonNotFound,
		http.StatusGone:                metav1.StatusReasonExpired,
		http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
		http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	}
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Message: "the testbed answers " + http.StatusText(code), Reason: reasons[code], Code: int32(code),
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status)
}

func (g *gate) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apiproxy", part.Handler(func(*http.Request) (any, error) { return g.state(), nil }))
	mux.HandleFunc("POST /apiproxy", part.Handler(func(r *http.Request) (any, error) {
		m, err := parse(r.URL.Query())
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		g.mode = m
		g.mu.Unlock()
		return g.state(), nil
	}))
	return mux
}

func (g *gate) state() map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return map[string]any{"mode": g.mode.name, "left": g.mode.left, "requests": g.requests, "refused": g.refused}
}

func parse(q url.Values) (mode, error) {
	m := mode{name: q.Get("mode"), match: q.Get("match"), left: -1}
	switch m.name {
	case "pass", "hang", "reset":
	default:
		status, err := strconv.Atoi(m.name)
		if err != nil || status < 400 || status > 599 {
			return m, fmt.Errorf("mode=%q is not pass, hang, reset or a status from 400 to 599", m.name)
		}
		m.status = status
	}
	if text := q.Get("times"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return m, fmt.Errorf("times=%q is not a positive number", text)
		}
		m.left = n
	}
	return m, nil
}

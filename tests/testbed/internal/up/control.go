package up

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cpg.test/common/validate"
	"cpg.test/testbed/internal/kube"
	"cpg.test/testbed/internal/part"
)

// routes is the one control channel that callers need: what concerns processes is answered here,
// the rest goes on to the control server of the part. README.md lists the requests.
func routes(t *table, relay *relayClient, certificates *issuer, cluster *kube.Cluster) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", part.Handler(func(*http.Request) (any, error) {
		return map[string]any{"parts": t.state()}, nil
	}))
	mux.HandleFunc("GET /connected", part.Handler(func(r *http.Request) (any, error) {
		return connected(r, t, relay)
	}))
	mux.HandleFunc("GET /following", part.Handler(func(r *http.Request) (any, error) {
		return following(r, t)
	}))
	mux.HandleFunc("POST /proc/{name}/{action}", part.Handler(func(r *http.Request) (any, error) {
		if err := act(r, t); err != nil {
			return nil, err
		}
		return map[string]any{"parts": t.state()}, nil
	}))
	mux.HandleFunc("POST /endpoints", part.Handler(func(r *http.Request) (any, error) {
		return broadcast(r, t)
	}))
	mux.HandleFunc("/node/{name}/", forward(t, func(r *http.Request) string { return r.PathValue("name") }))
	mux.HandleFunc("POST /tls/client", part.Handler(certificates.issue))
	mux.HandleFunc("POST /validate", part.Handler(validated))
	mux.HandleFunc("/peer/", forward(t, func(*http.Request) string { return "peer" }))
	if cluster != nil {
		mux.HandleFunc("/kubelet/", forward(t, func(*http.Request) string { return "kubelet" }))
		mux.HandleFunc("/apiproxy", forward(t, func(*http.Request) string { return "apiproxy" }))
		cluster.Routes(mux)
	}
	return mux
}

// validator is made when it is first asked for: most callers do without.
var validator = sync.OnceValues(validate.New)

// validated says what the subcommand validate says of the documents in the body.
func validated(r *http.Request) (any, error) {
	v, err := validator()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	lines, err := v.Text("-", body)
	return map[string]any{"documents": lines}, err
}

func act(r *http.Request, t *table) error {
	name := r.PathValue("name")
	switch action := r.PathValue("action"); action {
	case "kill":
		return t.signal(name, syscall.SIGKILL)
	case "term":
		return t.signal(name, syscall.SIGTERM)
	case "stop":
		return t.signal(name, syscall.SIGSTOP)
	case "cont":
		return t.signal(name, syscall.SIGCONT)
	case "start":
		return t.start(r.Context(), name)
	case "restart":
		return t.restart(r.Context(), name)
	default:
		return fmt.Errorf("%q is not kill, term, stop, cont, start or restart", action)
	}
}

// connected waits until the relay has n nodes connected (default: all that run), for at most
// timeout seconds (default 10).
func connected(r *http.Request, t *table, relay *relayClient) (any, error) {
	n, limit, err := waiting(r, len(t.runningNodes()))
	if err != nil {
		return nil, err
	}
	if err := relay.waitConnected(r.Context(), n, limit); err != nil {
		return nil, err
	}
	return map[string]int{"connected": n}, nil
}

// following waits until at least n streams (default 1) follow on every running node, for at most
// timeout seconds (default 10).
func following(r *http.Request, t *table) (any, error) {
	n, limit, err := waiting(r, 1)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	answer := map[string]int{}
	for _, row := range t.runningNodes() {
		for {
			var status struct{ Followers int }
			if err := getJSON(ctx, row.Control+"/status", &status); err != nil {
				return nil, fmt.Errorf("%s: %w", row.Name, err)
			}
			if answer[row.Name] = status.Followers; status.Followers >= n {
				break
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("%s has %d followers", row.Name, status.Followers)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return answer, nil
}

// waiting reads the parameters n and timeout.
func waiting(r *http.Request, otherwise int) (n int, limit time.Duration, err error) {
	n, seconds := otherwise, 10
	for name, value := range map[string]*int{"n": &n, "timeout": &seconds} {
		if text := r.URL.Query().Get(name); text != "" {
			if *value, err = strconv.Atoi(text); err != nil {
				return 0, 0, fmt.Errorf("%s=%q is not a number", name, text)
			}
		}
	}
	return n, time.Duration(seconds) * time.Second, nil
}

func getJSON(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// broadcast registers the same endpoints on every running node.
func broadcast(r *http.Request, t *table) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	answers := map[string]json.RawMessage{}
	for _, row := range t.runningNodes() {
		response, err := http.Post(row.Control+"/endpoints", "application/json", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", row.Name, text)
		}
		answers[row.Name] = text
	}
	return answers, nil
}

// forward passes a request on to the control server of the part that name gives; its path there is
// the last element of the path here.
func forward(t *table, name func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		target, err := controlOf(t, name(r))
		if err != nil {
			part.Refuse(w, http.StatusBadRequest, err)
			return
		}
		proxy := &httputil.ReverseProxy{Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL.Path = r.URL.Path[strings.LastIndex(r.URL.Path, "/"):]
			out.SetURL(target)
		}}
		proxy.ServeHTTP(w, r)
	}
}

func controlOf(t *table, name string) (*url.URL, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.get(name)
	if err != nil {
		return nil, err
	}
	if p.control == "" || !p.alive() {
		return nil, fmt.Errorf("%s does not run or has no control server", name)
	}
	return &url.URL{Scheme: "http", Host: p.control}, nil
}

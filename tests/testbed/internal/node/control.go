package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"

	"cpg.test/testbed/internal/part"

	"github.com/cilium/cilium/pkg/hubble/observer"
	observerTypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/time"
)

// fillers is the number of agent events after each batch when the request does not say. One makes
// the batch readable; with two, a stream that is opened later does not start with the batch's last
// flow again.
const fillers = 2

// routes are the requests of the control server; README.md lists them for users.
func routes(s *source, endpoints *registry, obs *observer.LocalObserverServer, following *followers) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", part.Handler(func(*http.Request) (any, error) {
		ring := obs.GetRingBuffer()
		return map[string]any{
			"node": s.node, "events": ring.Len(), "capacity": ring.Cap(), "followers": following.open.Load(),
		}, nil
	}))
	mux.HandleFunc("POST /inject", part.Handler(s.inject))
	mux.HandleFunc("POST /packet", part.Handler(func(r *http.Request) (any, error) {
		return s.packet(r, endpoints)
	}))
	mux.HandleFunc("POST /perf", part.Handler(s.perf))
	mux.HandleFunc("POST /lost", part.Handler(s.lost))
	mux.HandleFunc("POST /flush", part.Handler(func(r *http.Request) (any, error) {
		n, err := number(r.URL.Query(), "n", 1)
		if err != nil {
			return nil, err
		}
		return map[string]any{"fillers": n}, s.fill(n)
	}))
	mux.HandleFunc("GET /endpoints", part.Handler(func(*http.Request) (any, error) {
		return endpoints.list(), nil
	}))
	mux.HandleFunc("POST /endpoints", part.Handler(func(r *http.Request) (any, error) {
		return endpoints.register(r.Body)
	}))
	mux.HandleFunc("DELETE /endpoints", part.Handler(func(*http.Request) (any, error) {
		return endpoints.clear()
	}))
	return mux
}

// perf takes one raw event of the kernel's ring, as bytes.
func (s *source) perf(r *http.Request) (any, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return s.raw(r.URL.Query(), time.Now(), data)
}

// raw sends raw events through the parser and answers with the flows that came out.
func (s *source) raw(q url.Values, at time.Time, events ...[]byte) (any, error) {
	n, err := fillersOf(q)
	if err != nil {
		return nil, err
	}
	flows := []json.RawMessage{}
	for i, data := range events {
		// The kernel sends the events of one packet about a microsecond apart.
		res := s.sendWait(&observerTypes.PerfEvent{Data: data}, at.Add(time.Duration(i)*1300))
		if res.err != nil {
			return nil, fmt.Errorf("parser: %w", res.err)
		}
		text, err := protojson.Marshal(res.event.GetFlow())
		if err != nil {
			return nil, err
		}
		flows = append(flows, text)
	}
	return map[string]any{"flows": flows, "fillers": n}, s.fill(n)
}

// lost reports n events as lost at a source: 1 the kernel's ring, 2 the agent's queue, 3 Hubble's
// ring.
func (s *source) lost(r *http.Request) (any, error) {
	q := r.URL.Query()
	from, err := number(q, "source", observerTypes.LostEventSourceHubbleRingBuffer)
	if err != nil {
		return nil, err
	}
	n, err := number(q, "n", 1)
	if err != nil {
		return nil, err
	}
	cpu, err := number(q, "cpu", 0)
	if err != nil {
		return nil, err
	}
	fill, err := fillersOf(q)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	res := s.sendWait(&observerTypes.LostEvent{
		Source: from, NumLostEvents: uint64(n), CPU: cpu, First: now, Last: now,
	}, now)
	if res.err != nil {
		return nil, res.err
	}
	return map[string]any{"lost": n, "fillers": fill}, s.fill(fill)
}

func fillersOf(q url.Values) (int, error) {
	if q.Get("flush") == "0" {
		return 0, nil
	}
	return number(q, "fillers", fillers)
}

func number(q url.Values, name string, otherwise int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%q is not a number", name, text)
	}
	return n, nil
}

// Package peer is the real Hubble peer service, which tells the relay which nodes there are. In a
// cluster every agent serves it; here it is a process of its own, so that it outlives killed nodes.
package peer

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"cpg.test/testbed/internal/part"

	datapath "github.com/cilium/cilium/pkg/datapath/types"
	"github.com/cilium/cilium/pkg/hubble/peer"
	"github.com/cilium/cilium/pkg/hubble/peer/serviceoption"
	"github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	"github.com/cilium/cilium/pkg/node/addressing"
	nodeTypes "github.com/cilium/cilium/pkg/node/types"
)

// Main runs the peer service until SIGTERM.
func Main(args []string) int {
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	listen := flags.String("listen", "", "address of the peer service")
	control := flags.String("control", "", "address of the control server")
	port := flags.Int("hubble-port", 4244, "port of Hubble on every node")
	nodes := flags.String("nodes", "", "nodes known from the start: name=ip,name=ip")
	var tls part.TLS
	tls.Register(flags)
	_ = flags.Parse(args)

	if err := run(*listen, *control, *port, *nodes, tls); err != nil {
		return part.Fail(err)
	}
	return 0
}

func run(listen, control string, port int, nodes string, tls part.TLS) error {
	log := part.Log()
	list := &nodeList{nodes: map[string]nodeTypes.Node{}, handlers: map[datapath.NodeHandler]struct{}{}}
	for _, n := range strings.FieldsFunc(nodes, func(r rune) bool { return r == ',' }) {
		name, ip, _ := strings.Cut(n, "=")
		if err := list.add(name, ip); err != nil {
			return err
		}
	}

	options := []serviceoption.Option{serviceoption.WithHubblePort(port)}
	if tls.Cert == "" {
		options = append(options, serviceoption.WithoutTLSInfo())
	}
	service := peer.NewService(list, options...)
	security, err := tls.Option(log)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(log, serveroption.WithTCPListener(listen), serveroption.WithHealthService(),
		serveroption.WithPeerService(service), security)
	if err != nil {
		return err
	}
	if _, err := part.Listen(control, list.routes()); err != nil {
		return err
	}

	ctx, stop := part.Terminated()
	defer stop()
	go func() {
		<-ctx.Done()
		_ = service.Close()
		srv.Stop()
	}()
	return srv.Serve()
}

// nodeList stands in for the agent's node manager: it holds the nodes and tells the peer service
// about every change.
type nodeList struct {
	mu       sync.Mutex
	nodes    map[string]nodeTypes.Node
	handlers map[datapath.NodeHandler]struct{}
}

// Subscribe tells a new handler of all nodes, as the node manager does.
func (l *nodeList) Subscribe(h datapath.NodeHandler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handlers[h] = struct{}{}
	for _, n := range l.nodes {
		_ = h.NodeAdd(n)
	}
}

// Unsubscribe forgets a handler.
func (l *nodeList) Unsubscribe(h datapath.NodeHandler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.handlers, h)
}

func (l *nodeList) add(name, ip string) error {
	addr := net.ParseIP(ip)
	if name == "" || addr == nil {
		return fmt.Errorf("a node needs a name and an IP address, got %q and %q", name, ip)
	}
	n := nodeTypes.Node{Name: name, IPAddresses: []nodeTypes.Address{{Type: addressing.NodeInternalIP, IP: addr}}}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.nodes[name]
	l.nodes[name] = n
	for h := range l.handlers {
		if known {
			_ = h.NodeUpdate(old, n)
		} else {
			_ = h.NodeAdd(n)
		}
	}
	return nil
}

func (l *nodeList) remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known := l.nodes[name]
	if !known {
		return fmt.Errorf("no node is called %q", name)
	}
	delete(l.nodes, name)
	for h := range l.handlers {
		_ = h.NodeDelete(n)
	}
	return nil
}

func (l *nodeList) list() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]string{}
	for name, n := range l.nodes {
		out[name] = n.IPAddresses[0].IP.String()
	}
	return out
}

func (l *nodeList) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", part.Handler(func(*http.Request) (any, error) {
		return map[string]any{"nodes": l.list()}, nil
	}))
	mux.HandleFunc("POST /add", part.Handler(func(r *http.Request) (any, error) {
		q := r.URL.Query()
		if err := l.add(q.Get("name"), q.Get("ip")); err != nil {
			return nil, err
		}
		return map[string]any{"nodes": l.list()}, nil
	}))
	mux.HandleFunc("POST /del", part.Handler(func(r *http.Request) (any, error) {
		if err := l.remove(r.URL.Query().Get("name")); err != nil {
			return nil, err
		}
		return map[string]any{"nodes": l.list()}, nil
	}))
	return mux
}

// Package up is the supervisor: it starts every part of the testbed as a process of its own, waits
// until the relay has connected all nodes, and serves the control channel until its standard input
// closes.
//
// Addresses: each testbed has a /24 of the loopback network (-net 127.0.77) and every part fixed
// ports there, because the peer service can name only one port for all nodes. Two testbeds at a
// time need two nets.
package up

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"cpg.test/testbed/internal/kube"
	"cpg.test/testbed/internal/part"
	"cpg.test/testbed/internal/pki"
)

// Ports are those of a cluster, except for the control servers.
const (
	hubblePort  = 4244
	relayPort   = 4245
	controlPort = 4246
	healthPort  = 4222
)

// Last numbers of the addresses.
const (
	peerHost  = 9
	relayHost = 10
	firstNode = 11
)

type settings struct {
	dir, net, control, tls string
	nodes, ring            int
	stay                   bool
	kube                   kubeSettings
}

// ready is the line that tells the caller where everything is.
type ready struct {
	Ready      bool   `json:"ready"`
	Relay      string `json:"relay"`
	Control    string `json:"control"`
	CA         string `json:"ca,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	kube.Access
}

// Main runs the supervisor.
func Main(args []string) int {
	var s settings
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	flags.StringVar(&s.dir, "dir", "", "directory for logs, certificates and saved endpoints (required)")
	flags.IntVar(&s.nodes, "nodes", 2, "number of Hubble nodes")
	flags.StringVar(&s.net, "net", "127.0.77", "first three numbers of the addresses, or auto")
	flags.IntVar(&s.ring, "ring", 4095, "events that the ring of a node holds: 2^n-1, at most 65535")
	flags.StringVar(&s.control, "control", "127.0.0.1:0", "address of the control channel")
	flags.StringVar(&s.tls, "tls", "off", "off, tls, or mtls (the relay asks its clients for a certificate)")
	flags.BoolVar(&s.stay, "stay", false, "do not end when standard input closes")
	flags.BoolVar(&s.kube.on, "kube", false, "also an API server with etcd, a kubelet's port-forward, and the objects of Cilium")
	flags.StringVar(&s.kube.program, "kube-program", "", "program of the module kube/; default: testbed-kube beside this one")
	flags.StringVar(&s.kube.rbac, "rbac", "", "directory deploy/rbac; default: searched upwards from here")
	_ = flags.Parse(args)

	ctx, stop := part.Terminated()
	defer stop()
	if !s.stay {
		ctx = untilClosed(ctx, os.Stdin)
	}
	if err := run(ctx, s, os.Stdout); err != nil && !errors.Is(err, context.Canceled) {
		return part.Fail(err)
	}
	return 0
}

// untilClosed returns a context that also ends when nothing more can be read from in.
func untilClosed(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}

func run(ctx context.Context, s settings, out io.Writer) error {
	if s.dir == "" {
		return errors.New("up needs -dir")
	}
	if s.nodes < 1 || s.nodes > 200 {
		return errors.New("-nodes must be 1 to 200")
	}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, network, err := reserve(s.net)
	if err != nil {
		return err
	}
	defer lock.Close()

	security, err := newSecurity(s.tls, dir, s.nodes)
	if err != nil {
		return err
	}
	specs, err := plan(network, dir, s, security)
	if err != nil {
		return err
	}
	var cluster *kube.Cluster
	var kubeSpecs []spec
	if s.kube.on {
		if cluster, err = newCluster(network, dir, s.kube, security); err != nil {
			return err
		}
		if kubeSpecs, err = kubePlan(network, dir, s.kube, cluster); err != nil {
			return err
		}
	}
	table := newTable(dir)
	defer table.killAll()
	for _, spec := range slices.Concat(specs, kubeSpecs) {
		if err := table.add(spec); err != nil {
			return err
		}
	}
	filled := make(chan error, 1)
	if cluster != nil {
		go func() { filled <- startKube(ctx, table, kubeSpecs, cluster) }()
	}
	// The relay starts last: without its peers it would wait a whole retry timeout.
	for _, spec := range specs {
		if err := table.start(ctx, spec.name); err != nil {
			return err
		}
	}
	relay, err := newRelayClient(fmt.Sprintf("%s.%d:%d", network, relayHost, relayPort), security)
	if err != nil {
		return err
	}
	if err := relay.waitConnected(ctx, s.nodes, 20*time.Second); err != nil {
		return fmt.Errorf("%w; logs are in %s", err, dir)
	}

	if cluster != nil {
		if err := <-filled; err != nil {
			return err
		}
	}

	control, err := part.Listen(s.control, routes(table, relay, security.issuer, cluster))
	if err != nil {
		return err
	}
	defer control.Close()
	line := ready{
		Ready: true, Relay: relay.address, Control: "http://" + control.Addr().String(),
		CA: security.ca, Cert: security.client.Cert, Key: security.client.Key, ServerName: security.serverName(),
	}
	if cluster != nil {
		line.Access = cluster.Ready
	}
	if err := json.NewEncoder(out).Encode(line); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// reserve claims a net for this supervisor by listening on a port that no part uses. "auto" takes
// the first free one.
func reserve(network string) (net.Listener, string, error) {
	try := func(network string) (net.Listener, error) {
		return net.Listen("tcp", fmt.Sprintf("%s.%d:%d", network, peerHost, controlPort+1))
	}
	if network != "auto" {
		lock, err := try(network)
		if err != nil {
			return nil, "", fmt.Errorf("net %s is taken by another testbed: %w", network, err)
		}
		return lock, network, nil
	}
	for n := range 1000 {
		// 127.100.0 to 127.109.255, from a place that differs between concurrent processes.
		place := (os.Getpid()*7 + n) % 2560
		network := fmt.Sprintf("127.%d.%d", 100+place/256, place%256)
		if lock, err := try(network); err == nil {
			return lock, network, nil
		}
	}
	return nil, "", errors.New("no free net found")
}

// security holds the certificates of the relay's two sides.
type security struct {
	mode   string
	ca     string
	client pki.Pair // of the relay's clients; only with mtls
	relay  pki.Pair
	peer   pki.Pair
	nodes  []pki.Pair
	issuer *issuer
}

func newSecurity(mode, dir string, nodes int) (*security, error) {
	s := &security{mode: mode, issuer: &issuer{dir: dir}}
	if mode == "off" {
		return s, nil
	}
	if mode != "tls" && mode != "mtls" {
		return nil, fmt.Errorf("-tls %q is not off, tls or mtls", mode)
	}
	authority, err := pki.New(filepath.Join(dir, "tls"), "testbed CA")
	if err != nil {
		return nil, err
	}
	s.ca, s.issuer.own = authority.CertFile, authority
	if s.relay, err = authority.Issue("relay", "*.hubble-relay.cilium.io"); err != nil {
		return nil, err
	}
	if s.peer, err = authority.Issue("peer", "hubble-peer.default.hubble-grpc.cilium.io"); err != nil {
		return nil, err
	}
	for i := range nodes {
		pair, err := authority.Issue(nodeName(i), nodeName(i)+".default.hubble-grpc.cilium.io")
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, pair)
	}
	if mode == "mtls" {
		s.client, err = authority.Issue("client", "client.hubble-relay.cilium.io")
	}
	return s, err
}

func (s *security) serverName() string {
	if s.mode == "off" {
		return ""
	}
	return pki.RelayServerName
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

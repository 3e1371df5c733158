package up

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"cpg.test/testbed/internal/pki"
)

// spec says how a part is started.
type spec struct {
	name string
	// program is the file to run; empty is this program.
	program string
	args    []string
	env     []string
	// listen is the address that the part serves; it is up when a connection succeeds there.
	listen string
	// control is the address of the part's control server, if it has one.
	control string
	// ready asks the part whether it is ready, where taking connections is not enough.
	ready func(context.Context) error
}

// plan lists the parts of Hubble in the order in which they start.
func plan(network, dir string, s settings, security *security) ([]spec, error) {
	at := func(host, port int) string { return fmt.Sprintf("%s.%d:%d", network, host, port) }
	var specs []spec
	var peers []string
	for i := range s.nodes {
		name := nodeName(i)
		peers = append(peers, fmt.Sprintf("%s=%s.%d", name, network, firstNode+i))
		node := spec{
			name:    name,
			listen:  at(firstNode+i, hubblePort),
			control: at(firstNode+i, controlPort),
			env:     []string{"K8S_NODE_NAME=" + name},
		}
		node.args = []string{
			"node", "-listen", node.listen, "-control", node.control, "-ring", strconv.Itoa(s.ring),
			"-endpoints", filepath.Join(dir, name+".endpoints.json"),
		}
		if security.mode != "off" {
			node.args = append(node.args, security.serverFlags(security.nodes[i])...)
		}
		specs = append(specs, node)
	}

	peer := spec{name: "peer", listen: at(peerHost, hubblePort), control: at(peerHost, controlPort)}
	peer.args = []string{
		"peer", "-listen", peer.listen, "-control", peer.control, "-hubble-port", strconv.Itoa(hubblePort),
		"-nodes", strings.Join(peers, ","),
	}
	if security.mode != "off" {
		peer.args = append(peer.args, security.serverFlags(security.peer)...)
	}

	relay := spec{name: "relay", listen: at(relayHost, relayPort)}
	relay.args = []string{
		"relay", "--gops=false", "--peer-service=" + peer.listen, "--listen-address=" + relay.listen,
		"--health-listen-address=" + at(relayHost, healthPort),
		"--sort-buffer-drain-timeout=100ms", "--retry-timeout=1s",
	}
	relay.args = append(relay.args, security.relayFlags()...)
	return append(specs, peer, relay), nil
}

// serverFlags are those of a node or the peer service. As in a cluster they ask the relay for a
// certificate, whatever the relay asks of its own clients.
func (s *security) serverFlags(pair pki.Pair) []string {
	return []string{"-cert", pair.Cert, "-key", pair.Key, "-ca", s.ca}
}

func (s *security) relayFlags() []string {
	if s.mode == "off" {
		return []string{"--disable-client-tls", "--disable-server-tls"}
	}
	flags := []string{
		"--tls-hubble-client-cert-file=" + s.relay.Cert,
		"--tls-hubble-client-key-file=" + s.relay.Key,
		"--tls-hubble-server-ca-files=" + s.ca,
		"--tls-relay-server-cert-file=" + s.relay.Cert,
		"--tls-relay-server-key-file=" + s.relay.Key,
	}
	if s.mode == "mtls" {
		flags = append(flags, "--tls-relay-client-ca-files="+s.ca)
	}
	return flags
}

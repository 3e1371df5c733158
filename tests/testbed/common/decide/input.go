package decide

import (
	"encoding/json"
	"fmt"

	"github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Input is one line of standard input: a cluster, its policies and the flows to decide.
type Input struct {
	// Cluster is the name of the local cluster; default "default".
	Cluster  string        `json:"cluster"`
	Opts     Opts          `json:"opts"`
	Policies string        `json:"policies"`
	IDs      map[string]ID `json:"ids"`
	Flows    []Flow        `json:"flows"`
}

// Opts are options of the agent. What is left out is as Helm installs it.
type Opts struct {
	// DefaultLocalCluster is policy-default-local-cluster (default true).
	DefaultLocalCluster *bool `json:"defaultLocalCluster"`
	// IPv4 (default true) and IPv6 (default false) are the enabled address families.
	IPv4 *bool `json:"ipv4"`
	IPv6 *bool `json:"ipv6"`
	// Always is enable-policy=always (default false: default).
	Always bool `json:"always"`
	// Localhost is allow-localhost: true or "always" (the default in Kubernetes), false or "policy".
	Localhost *localhost `json:"localhost"`
	// HostFirewall is enable-host-firewall.
	HostFirewall bool `json:"hostfw"`
	// NodeLabels is enable-node-selector-labels.
	NodeLabels bool `json:"nodelabels"`
	// ExtendedProtocols is enable-extended-ip-protocols.
	ExtendedProtocols bool `json:"extproto"`
	// L7 is enable-l7-proxy (default true).
	L7 *bool `json:"l7"`
}

// ID is an identity, and the pod behind it as far as policies see it.
type ID struct {
	ID     uint32   `json:"id"`
	Labels []string `json:"labels"`
	// NamedPorts are the container ports of the pod.
	NamedPorts map[string]NamedPort `json:"namedPorts"`
}

// NamedPort is a container port with a name.
type NamedPort struct {
	Proto string `json:"proto"`
	Port  int    `json:"port"`
}

// Flow is the first packet of a connection, after service translation.
type Flow struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Proto string `json:"proto"`
	// Port is the destination port, or the type for ICMP and ICMPv6.
	Port uint16 `json:"port"`
	// Named takes port and protocol from that named port of To instead.
	Named string `json:"named"`
	// DNS is a name that From asks To for, SNI the server name of its TLS handshake. One of them may be
	// given; it is asked about when the egress policy sends the connection to a proxy.
	DNS string `json:"dns"`
	SNI string `json:"sni"`
}

// Answer is the decision on one flow.
type Answer struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Proto   string `json:"proto"`
	Port    uint16 `json:"port"`
	Egress  string `json:"egress"`
	Ingress string `json:"ingress"`
	// Request is what the egress proxy says, if there is a request and a proxy.
	Request string `json:"request,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Refused names a document of the policies that the agent would not take.
type Refused struct {
	Index int    `json:"index"`
	Error string `json:"error"`
}

// localhost takes a bool or the agent's own words.
type localhost bool

func (l *localhost) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case `true`, `"always"`:
		*l = true
	case `false`, `"policy"`:
		*l = false
	default:
		return fmt.Errorf("localhost: %s is not a bool, \"always\" or \"policy\"", text)
	}
	return nil
}

func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

func parseInput(line []byte) (*Input, error) {
	in := &Input{}
	if err := json.Unmarshal(line, in); err != nil {
		return nil, err
	}
	if in.Cluster == "" {
		in.Cluster = "default"
	}
	return in, nil
}

// resolve gives a flow its protocol and port.
func (in *Input) resolve(flow *Flow) (u8proto.U8proto, error) {
	if flow.Named != "" {
		port, ok := in.IDs[flow.To].NamedPorts[flow.Named]
		if !ok {
			return 0, fmt.Errorf("%s has no port %q", flow.To, flow.Named)
		}
		flow.Port = uint16(port.Port)
		if flow.Proto == "" {
			flow.Proto = port.Proto
		}
	}
	switch flow.Proto {
	case "ICMP":
		return u8proto.ICMP, nil
	case "ICMPv6", "ICMPV6":
		return u8proto.ICMPv6, nil
	}
	proto, err := u8proto.ParseProtocol(flow.Proto)
	if err == nil && proto == u8proto.ANY {
		err = fmt.Errorf("a packet has one protocol, not %q", flow.Proto)
	}
	return proto, err
}

func (id ID) ports() (types.NamedPortMap, error) {
	out := types.NamedPortMap{}
	for name, port := range id.NamedPorts {
		if err := out.AddPort(name, port.Port, port.Proto); err != nil {
			return nil, err
		}
	}
	return out, nil
}

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/pkg/hubble/testutils"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/monitor"
	monitorAPI "github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/time"
)

// bpfLXC is the number of the endpoint program's source file in the kernel's events.
const bpfLXC = 2

// packet describes one event of the kernel about one packet. What is left out is taken from the
// registered endpoints, as far as the agent would know it.
type packet struct {
	// Kind is drop, verdict, or denied: the verdict and the drop that one denied packet causes.
	Kind string `json:"kind"`
	// Reason of a drop, as a number or a name of flow.proto. Default POLICY_DENIED (133).
	Reason json.RawMessage `json:"reason"`
	// Action of a verdict: deny (default), allow, redirect or audit.
	Action string `json:"action"`
	// Direction is ingress, egress or, for drops of programs without an endpoint, unknown.
	Direction string `json:"direction"`

	Src         string `json:"src"`
	Dst         string `json:"dst"`
	SrcPort     uint16 `json:"sport"`
	DstPort     uint16 `json:"dport"`
	SrcIdentity uint32 `json:"src_identity"`
	DstIdentity uint32 `json:"dst_identity"`
	// Endpoint is the number of the endpoint whose program sends the event. Default: the local
	// endpoint that the direction names.
	Endpoint uint16 `json:"endpoint"`

	// Protocol is tcp (default), udp, sctp, icmp or icmpv6.
	Protocol string `json:"protocol"`
	ICMPType uint8  `json:"icmp_type"`
	ICMPCode uint8  `json:"icmp_code"`
	// Flags of TCP, separated by anything: "SYN" (default), "SYN,ACK".
	Flags string `json:"flags"`

	MatchType uint8      `json:"match_type"`
	AuthType  uint8      `json:"auth_type"`
	ProxyPort uint16     `json:"proxy_port"`
	Time      *time.Time `json:"time"`
}

// packet builds the raw bytes that the kernel would send and passes them through Cilium's parser.
// The answer holds the flows that it made of them.
func (s *source) packet(r *http.Request, endpoints *registry) (any, error) {
	var p packet
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return nil, err
	}
	events, err := p.events(endpoints)
	if err != nil {
		return nil, err
	}
	at := time.Now()
	if p.Time != nil {
		at = *p.Time
	}
	return s.raw(r.URL.Query(), at, events...)
}

func (p *packet) events(endpoints *registry) ([][]byte, error) {
	src, err := netip.ParseAddr(p.Src)
	if err != nil {
		return nil, fmt.Errorf("src: %w", err)
	}
	dst, err := netip.ParseAddr(p.Dst)
	if err != nil {
		return nil, fmt.Errorf("dst: %w", err)
	}
	if src.Is4() != dst.Is4() {
		return nil, errors.New("src and dst are not of one address family")
	}
	reason, err := p.reason()
	if err != nil {
		return nil, err
	}
	from, _ := endpoints.get(src)
	to, _ := endpoints.get(dst)
	if p.SrcIdentity == 0 {
		p.SrcIdentity = from.Identity
	}
	if p.DstIdentity == 0 {
		p.DstIdentity = to.Identity
	}
	if err := p.findEndpoint(from, to); err != nil {
		return nil, err
	}
	wire, err := p.wire(src, dst)
	if err != nil {
		return nil, err
	}

	var kinds []any
	switch p.Kind {
	case "drop":
		kinds = []any{p.drop(reason)}
	case "verdict", "denied":
		verdict, err := p.verdict(reason, src.Is6())
		if err != nil {
			return nil, err
		}
		kinds = []any{verdict}
		if p.Kind == "denied" {
			kinds = append(kinds, p.drop(reason))
		}
	default:
		return nil, fmt.Errorf("kind %q is not drop, verdict or denied", p.Kind)
	}
	var events [][]byte
	for _, kind := range kinds {
		data, err := testutils.CreateL3L4Payload(kind, wire...)
		if err != nil {
			return nil, err
		}
		events = append(events, data)
	}
	return events, nil
}

// findEndpoint checks that the direction can come out of the parser: it compares the number of the
// sending endpoint with that of the packet's source.
func (p *packet) findEndpoint(from, to endpoint) error {
	local := from
	switch p.Direction {
	case "egress":
	case "ingress":
		local = to
	case "unknown":
		if p.Kind != "drop" {
			return errors.New("only a drop can have an unknown direction")
		}
		return nil
	default:
		return fmt.Errorf("direction %q is not ingress, egress or unknown", p.Direction)
	}
	if p.Endpoint == 0 {
		p.Endpoint = local.ID
	}
	if p.Endpoint == 0 {
		return fmt.Errorf("%s needs a registered endpoint with an id on this node (or \"endpoint\")", p.Direction)
	}
	return nil
}

func (p *packet) reason() (uint8, error) {
	text := strings.Trim(string(p.Reason), `"`)
	if text == "" || text == "null" {
		return uint8(flowpb.DropReason_POLICY_DENIED), nil
	}
	if n, ok := flowpb.DropReason_value[strings.ToUpper(text)]; ok {
		return uint8(n), nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("reason %s is no drop reason", p.Reason)
	}
	return uint8(n), nil
}

func (p *packet) drop(reason uint8) monitor.DropNotify {
	return monitor.DropNotify{
		Type:     monitorAPI.MessageTypeDrop,
		SubType:  reason,
		Source:   p.Endpoint,
		Version:  monitor.DropNotifyVersion3,
		SrcLabel: identity.NumericIdentity(p.SrcIdentity),
		DstLabel: identity.NumericIdentity(p.DstIdentity),
		File:     bpfLXC,
		Line:     1500,
	}
}

func (p *packet) verdict(reason uint8, ipv6 bool) (monitor.PolicyVerdictNotify, error) {
	v := monitor.PolicyVerdictNotify{
		Type:     monitorAPI.MessageTypePolicyVerdict,
		Source:   p.Endpoint,
		Version:  1,
		AuthType: p.AuthType,
		Flags:    p.MatchType << monitor.PolicyVerdictNotifyFlagMatchTypeBitOffset & monitor.PolicyVerdictNotifyFlagMatchType,
		DstPort:  p.DstPort,
	}
	if p.Direction == "ingress" {
		v.Flags |= monitorAPI.PolicyIngress
		v.RemoteLabel = identity.NumericIdentity(p.SrcIdentity)
	} else {
		v.Flags |= monitorAPI.PolicyEgress
		v.RemoteLabel = identity.NumericIdentity(p.DstIdentity)
	}
	if ipv6 {
		v.Flags |= monitor.PolicyVerdictNotifyFlagIsIPv6
	}
	switch p.Action {
	case "", "deny":
		v.Verdict = -int32(reason)
	case "allow":
	case "audit":
		v.Flags |= monitor.PolicyVerdictNotifyFlagIsAudited
	case "redirect":
		if p.ProxyPort == 0 {
			p.ProxyPort = 10000
		}
		v.Verdict = int32(p.ProxyPort)
	default:
		return v, fmt.Errorf("action %q is not deny, allow, redirect or audit", p.Action)
	}
	return v, nil
}

// wire is the packet itself, from Ethernet on.
func (p *packet) wire(src, dst netip.Addr) ([]gopacket.SerializableLayer, error) {
	l4, proto, err := p.transport(src, dst)
	if err != nil {
		return nil, err
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ethernet := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer
	if src.Is4() {
		ip = &layers.IPv4{
			Version: 4, IHL: 5, TTL: 64, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
	} else {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return append([]gopacket.SerializableLayer{ethernet, ip}, l4...), nil
}

func (p *packet) transport(src, dst netip.Addr) ([]gopacket.SerializableLayer, layers.IPProtocol, error) {
	switch p.Protocol {
	case "", "tcp":
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.SrcPort), DstPort: layers.TCPPort(p.DstPort)}
		return []gopacket.SerializableLayer{tcp}, layers.IPProtocolTCP, setFlags(tcp, p.Flags)
	case "udp":
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.SrcPort), DstPort: layers.UDPPort(p.DstPort)}
		return []gopacket.SerializableLayer{udp}, layers.IPProtocolUDP, nil
	case "sctp":
		sctp := &layers.SCTP{SrcPort: layers.SCTPPort(p.SrcPort), DstPort: layers.SCTPPort(p.DstPort)}
		return []gopacket.SerializableLayer{sctp}, layers.IPProtocolSCTP, nil
	case "icmp":
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.ICMPType, p.ICMPCode)}
		return []gopacket.SerializableLayer{icmp}, layers.IPProtocolICMPv4, nil
	case "icmpv6":
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.ICMPType, p.ICMPCode)}
		icmp6 := &layers.IPv6{SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		return []gopacket.SerializableLayer{icmp}, layers.IPProtocolICMPv6, icmp.SetNetworkLayerForChecksum(icmp6)
	}
	return nil, 0, fmt.Errorf("protocol %q is not tcp, udp, sctp, icmp or icmpv6", p.Protocol)
}

func setFlags(tcp *layers.TCP, text string) error {
	if text == "" {
		text = "SYN"
	}
	for _, flag := range strings.FieldsFunc(strings.ToUpper(text), func(r rune) bool { return r < 'A' || r > 'Z' }) {
		switch flag {
		case "SYN":
			tcp.SYN = true
		case "ACK":
			tcp.ACK = true
		case "FIN":
			tcp.FIN = true
		case "RST":
			tcp.RST = true
		case "PSH":
			tcp.PSH = true
		case "URG":
			tcp.URG = true
		case "ECE":
			tcp.ECE = true
		case "CWR":
			tcp.CWR = true
		default:
			return fmt.Errorf("%q is no TCP flag", flag)
		}
	}
	return nil
}

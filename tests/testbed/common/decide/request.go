package decide

import (
	"log/slog"
	"net/netip"
	"strings"

	"github.com/cilium/cilium/pkg/fqdn/dnsproxy"
	"github.com/cilium/cilium/pkg/fqdn/restore"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Answers about what is inside of a connection that goes to a proxy.
const (
	passes  = "allow"
	refused = "refuse"
	// unknown: another proxy may get it than the one that is asked here, or one with rules of its own.
	unknown = "proxy"
)

// request answers for the query or the server name of a flow that the subject's egress policy sends
// to a proxy.
func (c *Cluster) request(subject, peer *member, flow Flow, proto u8proto.U8proto) string {
	switch {
	case flow.DNS != "":
		return c.dns(subject, peer, flow.Port, proto, flow.DNS)
	case flow.SNI != "":
		return c.sni(subject, peer, flow.Port, proto, flow.SNI)
	}
	return ""
}

// dns asks Cilium's DNS proxy, which gets the rules of the port as an endpoint hands them over.
func (c *Cluster) dns(subject, peer *member, port uint16, proto u8proto.U8proto, name string) string {
	var rules policy.L7DataMap
	for filter := range subject.policy.SelectorPolicy.L4Policy.Egress.PortRules.Filters() {
		covered, certain := covers(filter, port, proto)
		if !covered {
			continue
		}
		same := certain && filter.Port == port
		forDNS := false
		for selector, rule := range filter.PerSelectorPolicies {
			if rule == nil || !rule.IsRedirect() {
				continue
			}
			if rule.L7Parser == policy.ParserTypeDNS {
				forDNS = true
			} else if same || selector.Selects(peer.identity.ID) {
				return unknown
			}
		}
		if !forDNS {
			continue
		}
		if !same || rules != nil {
			return unknown
		}
		rules = filter.PerSelectorPolicies
	}
	proxy := dnsproxy.NewDNSProxy(dnsproxy.DNSProxyConfig{Logger: slog.New(slog.DiscardHandler)}, nil, nil)
	key := restore.MakeV2PortProto(port, proto)
	if _, err := proxy.UpdateAllowed(1, key, rules); err != nil {
		return failed
	}
	allowed, err := proxy.CheckAllowed(1, key, peer.identity.ID, netip.Addr{}, name)
	switch {
	case err != nil:
		return failed
	case allowed:
		return passes
	}
	return refused
}

// sni compares the name with those that Cilium has joined for Envoy. The union over them, and what a
// wildcard means, are Envoy's (cilium/network_policy.cc and .h of cilium/proxy), written down again here.
func (c *Cluster) sni(subject, peer *member, port uint16, proto u8proto.U8proto, name string) string {
	if proto != u8proto.TCP {
		return unknown
	}
	answer := refused
	for filter := range subject.policy.SelectorPolicy.L4Policy.Egress.PortRules.Filters() {
		covered, certain := covers(filter, port, proto)
		if !covered {
			continue
		}
		for selector, rule := range filter.PerSelectorPolicies {
			if !selector.Selects(peer.identity.ID) {
				continue
			}
			if !certain {
				return unknown
			}
			if rule == nil {
				answer = passes
				continue
			}
			if rule.IsDeny() {
				continue
			}
			plain := rule.L7Parser == policy.ParserTypeTLS || !rule.IsRedirect() ||
				rule.L7Parser == policy.ParserTypeHTTP && rule.TerminatingTLS != nil
			if !plain || rule.Listener != "" {
				return unknown
			}
			if len(rule.ServerNames) == 0 {
				answer = passes
			}
			for pattern := range rule.ServerNames {
				if names(pattern, name) {
					answer = passes
				}
			}
		}
	}
	return answer
}

// covers says whether a filter may mean a port, and whether that is certain: named ports and ranges
// from 0 differ between the versions.
func covers(filter *policy.L4Filter, port uint16, proto u8proto.U8proto) (covered, certain bool) {
	switch {
	case filter.U8Proto != proto && filter.U8Proto != u8proto.ANY:
		return false, true
	case filter.PortName != "":
		return true, false
	case filter.Port == 0:
		return true, filter.EndPort == 0
	case filter.EndPort > filter.Port:
		return filter.Port <= port && port <= filter.EndPort, true
	}
	return filter.Port == port, true
}

// names says whether Envoy takes a server name for one of a pattern: exactly, one label below, or any
// number of labels below. Other wildcards are new in 1.20, and not asked here.
func names(pattern, name string) bool {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	if below, ok := strings.CutPrefix(pattern, "**"); ok {
		return strings.HasSuffix(name, below)
	}
	if below, ok := strings.CutPrefix(pattern, "*"); ok {
		label, ok := strings.CutSuffix(name, below)
		return ok && label != "" && !strings.Contains(label, ".")
	}
	return pattern == name
}

package decide

import (
	"fmt"

	"github.com/cilium/cilium/pkg/policy"
	policytypes "github.com/cilium/cilium/pkg/policy/types"
)

// Verdicts of one side of a flow.
const (
	allow       = "allow"
	redirect    = "redirect"
	deny        = "deny"
	defaultDeny = "default-deny"
	failed      = "error"
)

// decide answers for both ends of a flow.
func (c *Cluster) decide(flow Flow) Answer {
	proto, err := c.input.resolve(&flow)
	answer := Answer{From: flow.From, To: flow.To, Proto: flow.Proto, Port: flow.Port, Egress: failed, Ingress: failed}
	from, to := c.members[flow.From], c.members[flow.To]
	if err == nil && (from == nil || to == nil) {
		err = fmt.Errorf("ids has no %q or no %q", flow.From, flow.To)
	}
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	// The length is given, because 0 (echo reply) would mean any type otherwise.
	egress := policy.EgressKey().WithIdentity(to.identity.ID).WithPortProtoPrefix(proto, flow.Port, 16)
	ingress := policy.IngressKey().WithIdentity(from.identity.ID).WithPortProtoPrefix(proto, flow.Port, 16)
	if answer.Egress, err = c.verdict(from, egress); err != nil {
		answer.Error = "egress: " + err.Error()
	}
	if answer.Egress == redirect {
		answer.Request = c.request(from, to, flow, proto)
	}
	if answer.Ingress, err = c.verdict(to, ingress); err != nil {
		answer.Error = "ingress: " + err.Error()
	}
	return answer
}

// verdict looks a key up in the policy of a subject. A subject whose rules contradict each other has
// no policy in a cluster either (the agent keeps the old one); that is an error here.
func (c *Cluster) verdict(subject *member, key policytypes.Key) (string, error) {
	if !isEndpoint(subject.identity, c.input.Cluster, c.input.Opts.HostFirewall) {
		return allow, nil
	}
	if subject.policy == nil && subject.failed == nil {
		subject.policy, subject.failed = c.resolve(subject)
	}
	if subject.failed != nil {
		return failed, subject.failed
	}
	entry, _, found := subject.policy.Lookup(key)
	switch {
	case !found:
		return defaultDeny, nil
	case entry.IsDeny():
		return deny, nil
	case entry.IsRedirectEntry():
		return redirect, nil
	}
	return allow, nil
}

// resolve computes the policy map of a subject, as the agent does when it regenerates an endpoint.
func (c *Cluster) resolve(subject *member) (resolved *policy.EndpointPolicy, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	selected, err := c.engine.Resolve(c, subject.identity)
	if err != nil {
		return nil, err
	}
	owner := &Owner{identity: subject.identity, ports: subject.ports, engine: c.engine}
	resolved = selected.DistillPolicy(c.log, owner, c.engine.Redirects(selected, owner))
	_ = resolved.Ready()
	return resolved, nil
}

// Package engine calls the policy engine of Cilium 1.19.
package engine

import (
	"cpg.test/common/decide"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/spanstat"
	"github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Engine implements decide.Engine.
type Engine struct {
	ports types.NamedPortMultiMap
}

var _ decide.Engine = (*Engine)(nil)

// AllowLocalhost implements decide.Engine.
func (e *Engine) AllowLocalhost(mode string) { option.Config.AllowLocalhost = mode }

// Prepare implements decide.Engine. The selector caches know the identities already.
func (e *Engine) Prepare(_ *decide.Cluster, _ identity.IdentityMap, ports map[identity.NumericIdentity]types.NamedPortMap) {
	all := types.NewNamedPortMultiMap()
	for _, named := range ports {
		all.Update(nil, named)
	}
	e.ports = all
}

// Resolve implements decide.Engine.
func (e *Engine) Resolve(c *decide.Cluster, subject *identity.Identity) (policy.SelectorPolicy, error) {
	selected, _, err := c.Repository.GetSelectorPolicy(subject, 0, &statistics{}, 1)
	return selected, err
}

// Redirects implements decide.Engine, with the names that an endpoint gives its redirects.
func (e *Engine) Redirects(selected policy.SelectorPolicy, owner *decide.Owner) map[string]uint16 {
	out := map[string]uint16{}
	for filter, selector := range selected.RedirectFilters() {
		port := filter.Port
		if port == 0 && filter.PortName != "" {
			if port = owner.GetNamedPort(filter.Ingress, filter.PortName, filter.U8Proto); port == 0 {
				continue
			}
		}
		id := policy.ProxyID(uint16(owner.GetID()), filter.Ingress, string(filter.Protocol), port,
			selector.Policy.GetListener())
		out[id] = 10000
	}
	return out
}

// EgressPort implements decide.Engine: one number for the name in the whole cluster, or none.
func (e *Engine) EgressPort(name string, proto u8proto.U8proto) uint16 {
	port, _ := e.ports.GetNamedPort(name, proto)
	return port
}

// statistics takes the times that GetSelectorPolicy measures.
type statistics struct {
	waiting, calculation spanstat.SpanStat
}

func (s *statistics) WaitingForPolicyRepository() *spanstat.SpanStat { return &s.waiting }
func (s *statistics) SelectorPolicyCalculation() *spanstat.SpanStat  { return &s.calculation }

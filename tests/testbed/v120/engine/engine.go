// Package engine calls the policy engine of Cilium 1.20.
package engine

import (
	"math"

	"cpg.test/common/decide"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Engine implements decide.Engine.
type Engine struct {
	ports types.NamedPortMultiMap
}

var _ decide.Engine = (*Engine)(nil)

// AllowLocalhost implements decide.Engine.
func (e *Engine) AllowLocalhost(mode string) {
	option.Config.UnsafeDaemonConfigOption.AllowLocalhost = mode
}

// Prepare implements decide.Engine. The repository no longer learns of subjects from the identity
// manager, and asks for named ports itself.
func (e *Engine) Prepare(c *decide.Cluster, ids identity.IdentityMap, ports map[identity.NumericIdentity]types.NamedPortMap) {
	all := types.NewNamedPortMultiMap()
	for number, named := range ports {
		all.Update(number, nil, named)
	}
	e.ports = all
	c.Repository.SetNamedPortsGetter(e)
	c.Repository.UpdateIdentities(ids, nil)
}

// GetNamedPorts implements policy.NamedPortsGetter.
func (e *Engine) GetNamedPorts() types.NamedPortMultiMap { return e.ports }

// Resolve implements decide.Engine.
func (e *Engine) Resolve(c *decide.Cluster, subject *identity.Identity) (policy.SelectorPolicy, error) {
	selected, _, err := c.Repository.ComputeSelectorPolicy(subject)
	return selected, err
}

// Redirects implements decide.Engine with the one entry that stands for every redirect.
func (e *Engine) Redirects(policy.SelectorPolicy, *decide.Owner) map[string]uint16 {
	return map[string]uint16{policy.FallbackRedirectID: math.MaxUint16}
}

// EgressPort implements decide.Engine; this version does not ask.
func (e *Engine) EgressPort(string, u8proto.U8proto) uint16 { return 0 }

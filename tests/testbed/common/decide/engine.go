package decide

import (
	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Engine is what the versions of Cilium do differently.
type Engine interface {
	// AllowLocalhost sets the agent's option of that name.
	AllowLocalhost(mode string)
	// Prepare tells the repository of all identities and of the named ports of their pods.
	Prepare(c *Cluster, ids identity.IdentityMap, ports map[identity.NumericIdentity]types.NamedPortMap)
	// Resolve computes the policy of a subject.
	Resolve(c *Cluster, subject *identity.Identity) (policy.SelectorPolicy, error)
	// Redirects says which rules have a proxy port; here every one has.
	Redirects(selected policy.SelectorPolicy, owner *Owner) map[string]uint16
	// EgressPort resolves a named port of an egress rule for the whole cluster (before 1.20).
	EgressPort(name string, proto u8proto.U8proto) uint16
}

// Owner is the endpoint that a policy is computed for. It has the methods that either version asks
// for.
type Owner struct {
	identity *identity.Identity
	ports    types.NamedPortMap
	engine   Engine
}

// GetID is the endpoint's number, which appears only in names of redirects.
func (o *Owner) GetID() uint64 { return 1 }

// GetNamedPort resolves a named port (before 1.20).
func (o *Owner) GetNamedPort(ingress bool, name string, proto u8proto.U8proto) uint16 {
	if ingress {
		return o.GetIngressNamedPort(name, proto)
	}
	return o.engine.EgressPort(name, proto)
}

// GetIngressNamedPort resolves a named port of the endpoint itself.
func (o *Owner) GetIngressNamedPort(name string, proto u8proto.U8proto) uint16 {
	port, _ := o.ports.GetNamedPort(name, proto)
	return port
}

// PolicyDebug drops debug output.
func (o *Owner) PolicyDebug(string, ...any) {}

// IsHost says whether the endpoint is the host.
func (o *Owner) IsHost() bool { return o.identity.ID == identity.ReservedIdentityHost }

// PreviousMapState is nil: there is no earlier policy.
func (o *Owner) PreviousMapState() *policy.MapState { return nil }

// RegenerateIfAlive says that the endpoint is gone.
func (o *Owner) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	done := make(chan bool)
	close(done)
	return done
}

// isEndpoint says whether an identity can be a local endpoint, which alone has a policy: pods of
// this cluster, health, ingress and init endpoints, and the host with the host firewall.
func isEndpoint(id *identity.Identity, cluster string, hostFirewall bool) bool {
	if id.ID == identity.ReservedIdentityHost {
		return hostFirewall
	}
	for _, label := range id.LabelArray {
		switch label.Source {
		case labels.LabelSourceCIDR, labels.LabelSourceFQDN, labels.LabelSourceCIDRGroup:
			return false
		case labels.LabelSourceReserved:
			switch label.Key {
			case labels.IDNameHealth, labels.IDNameIngress, labels.IDNameInit:
			default:
				return false
			}
		case labels.LabelSourceK8s:
			if label.Key == "io.cilium.k8s.policy.cluster" && label.Value != cluster {
				return false
			}
		}
	}
	return true
}

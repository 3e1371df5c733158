// Package agent reads policies the way the Cilium agent does once the API server has stored them.
package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/k8s"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	slim_networkingv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/policy/utils"
)

// Kinds of policies.
const (
	CNP  = v2.CNPKindDefinition
	CCNP = v2.CCNPKindDefinition
	NP   = "NetworkPolicy"
)

// IsPolicy says whether an object is one that the agent takes.
func IsPolicy(object *unstructured.Unstructured) bool {
	group, _, _ := strings.Cut(object.GetAPIVersion(), "/")
	switch object.GetKind() {
	case CNP, CCNP:
		return group == "cilium.io"
	case NP:
		return group == "networking.k8s.io"
	}
	return false
}

// Policy is what a policy object comes down to.
type Policy struct {
	Entries  types.PolicyEntries
	Resource ipcachetypes.ResourceID
}

// Parse turns an object into policy entries. cluster is the name that peers without a cluster are
// limited to; empty means any cluster. Strict also refuses fields that the Go types do not have.
//
// Cilium's code panics on some input; such a panic comes back as an error.
func Parse(log *slog.Logger, cluster string, object *unstructured.Unstructured, strict bool) (policy Policy, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	text, err := object.MarshalJSON()
	if err != nil {
		return Policy{}, err
	}
	decode := func(into any) error { return json.Unmarshal(text, into) }
	if strict {
		decode = func(into any) error { return yaml.UnmarshalStrict(text, into) }
	}

	var rules api.Rules
	var kind ipcachetypes.ResourceKind
	namespace := object.GetNamespace()
	switch object.GetKind() {
	case CNP:
		// An object without namespace goes to "default" with kubectl; Parse would take it for a
		// clusterwide policy.
		if namespace == "" {
			namespace = "default"
		}
		kind = ipcachetypes.ResourceKindCNP
		p := &v2.CiliumNetworkPolicy{}
		if err := decode(p); err != nil {
			return Policy{}, err
		}
		p.Namespace = namespace
		if rules, err = p.Parse(log, cluster); err != nil {
			return Policy{}, err
		}
	case CCNP:
		kind, namespace = ipcachetypes.ResourceKindCCNP, ""
		p := &v2.CiliumClusterwideNetworkPolicy{}
		if err := decode(p); err != nil {
			return Policy{}, err
		}
		if rules, err = p.Parse(log, cluster); err != nil {
			return Policy{}, err
		}
	case NP:
		if namespace == "" {
			namespace = "default"
		}
		p := &slim_networkingv1.NetworkPolicy{}
		if err := decode(p); err != nil {
			return Policy{}, err
		}
		entries, err := k8s.ParseNetworkPolicy(log, cluster, p)
		id := ipcachetypes.NewResourceID(ipcachetypes.ResourceKindNetpol, namespace, object.GetName())
		return Policy{Entries: entries, Resource: id}, err
	default:
		return Policy{}, fmt.Errorf("kind %q is no policy", object.GetKind())
	}
	return Policy{
		Entries:  utils.RulesToPolicyEntries(rules),
		Resource: ipcachetypes.NewResourceID(kind, namespace, object.GetName()),
	}, nil
}

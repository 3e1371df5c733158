package decide

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"cpg.test/common/agent"
	"cpg.test/common/document"

	"github.com/cilium/cilium/pkg/crypto/certificatemanager"
	envoypolicy "github.com/cilium/cilium/pkg/envoy/policy"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
	"github.com/cilium/cilium/pkg/types"
)

// Cluster is what one agent knows: identities, named ports and policies. Cilium keeps its options
// in variables of the whole process, so only the newest Cluster may be asked.
type Cluster struct {
	Repository *policy.Repository
	Manager    identitymanager.IDManager

	log     *slog.Logger
	engine  Engine
	input   *Input
	members map[string]*member
}

// member is an entry of the input's ids.
type member struct {
	identity *identity.Identity
	ports    types.NamedPortMap
	// policy is the resolved policy; nil until somebody asks.
	policy *policy.EndpointPolicy
	failed error
}

// certificates has every certificate that a rule names.
type certificates struct{}

// GetTLSContext implements certificatemanager.CertificateManager.
func (certificates) GetTLSContext(context.Context, *api.TLSContext, string) (ca, public, private string, inline bool, err error) {
	return "ca", "public", "private", true, nil
}

// newCluster builds the repository. The refused documents are those that the agent would log and
// leave out.
func newCluster(log *slog.Logger, engine Engine, in *Input) (*Cluster, []Refused, error) {
	setOptions(engine, in)
	manager := identitymanager.NewIDManager(log)
	secrets := certificatemanager.NewMockSecretManagerInline()
	c := &Cluster{
		Manager: manager,
		Repository: policy.NewPolicyRepository(log, nil, certificates{}, envoypolicy.NewEnvoyL7RulesTranslator(log, secrets),
			manager, testpolicy.NewPolicyMetricsNoop()),
		log: log, engine: engine, input: in, members: map[string]*member{},
	}
	// Identities come before policies: otherwise the selector caches would start a goroutine each
	// to tell the rules about them, and no one would end it.
	if err := c.addIdentities(); err != nil {
		return nil, nil, err
	}
	refused, err := c.addPolicies()
	return c, refused, err
}

func setOptions(engine Engine, in *Input) {
	opts := in.Opts
	option.Config.EnableIPv4 = or(opts.IPv4, true)
	option.Config.EnableIPv6 = or(opts.IPv6, false)
	option.Config.EnableL7Proxy = or(opts.L7, true)
	option.Config.EnableHostFirewall = opts.HostFirewall
	option.Config.EnableNodeSelectorLabels = opts.NodeLabels
	option.Config.EnableExtendedIPProtocols = opts.ExtendedProtocols
	mode := option.AllowLocalhostPolicy
	if or(opts.Localhost, true) {
		mode = option.AllowLocalhostAlways
	}
	engine.AllowLocalhost(mode)
	enforcement := option.DefaultEnforcement
	if opts.Always {
		enforcement = option.AlwaysEnforce
	}
	policy.SetPolicyEnabled(enforcement)
	api.InitEntities(in.Cluster)
}

func (c *Cluster) addIdentities() error {
	known := identity.IdentityMap{}
	owners := map[identity.NumericIdentity]string{}
	ports := map[identity.NumericIdentity]types.NamedPortMap{}
	for name, entry := range c.input.IDs {
		number := identity.NumericIdentity(entry.ID)
		if number == 0 {
			return fmt.Errorf("ids: %s has no number", name)
		}
		if other, taken := owners[number]; taken {
			return fmt.Errorf("ids: %s and %s have the same number %d", other, name, number)
		}
		array := labels.NewLabelsFromModel(entry.Labels).LabelArray()
		named, err := entry.ports()
		if err != nil {
			return fmt.Errorf("ids: %s: %w", name, err)
		}
		owners[number], known[number], ports[number] = name, array, named
		c.members[name] = &member{identity: identity.NewIdentityFromLabelArray(number, array), ports: named}
	}
	c.Repository.GetSelectorCache().UpdateIdentities(known, nil, &sync.WaitGroup{})
	for _, m := range c.members {
		c.Manager.Add(m.identity)
	}
	c.engine.Prepare(c, known, ports)
	return nil
}

func (c *Cluster) addPolicies() ([]Refused, error) {
	documents, err := document.Split([]byte(c.input.Policies))
	if err != nil {
		return nil, err
	}
	cluster := ""
	if or(c.input.Opts.DefaultLocalCluster, true) {
		cluster = c.input.Cluster
	}
	var refused []Refused
	for _, d := range documents {
		if d.Err == nil && !agent.IsPolicy(d.Object) {
			continue
		}
		var p agent.Policy
		err := d.Err
		if err == nil {
			p, err = agent.Parse(c.log, cluster, d.Object, false)
		}
		if err != nil {
			refused = append(refused, Refused{Index: d.Index, Error: err.Error()})
			continue
		}
		c.Repository.ReplaceByResource(p.Entries, p.Resource)
	}
	return refused, nil
}

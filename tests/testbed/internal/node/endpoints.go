package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"sync"

	"github.com/cilium/cilium/pkg/hubble/parser/getters"
	"github.com/cilium/cilium/pkg/hubble/testutils"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/ipcache"
	slim_corev1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
	slim_metav1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/apis/meta/v1"
	"github.com/cilium/cilium/pkg/labels"

	flowpb "github.com/cilium/cilium/api/v1/flow"
)

// endpoint is what the agent knows about an address: what its endpoint manager, ipcache, identity
// allocator, DNS cache and service cache would answer.
type endpoint struct {
	// ID is the endpoint's number on its node. 0: the address is not an endpoint of this node.
	ID uint16 `json:"id,omitempty"`
	// Node is the node that the endpoint runs on. On all others the ID does not count, so that one
	// list can be sent to every node.
	Node      string   `json:"node,omitempty"`
	Identity  uint32   `json:"identity"`
	IP        string   `json:"ip,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Pod       string   `json:"pod,omitempty"`
	Labels    []string `json:"labels,omitempty"`
	// Workload is the owner of the pod, shown for endpoints of this node only.
	Workload *workload `json:"workload,omitempty"`
	// Names are DNS names of the address.
	Names []string `json:"names,omitempty"`
	// Service is the service whose frontend the address is (any port).
	Service *service `json:"service,omitempty"`
}

type workload struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

type service struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// registry answers the parser's questions from the registered endpoints.
type registry struct {
	node string
	file string

	mu        sync.RWMutex
	endpoints map[netip.Addr]endpoint
	labels    map[uint32][]string
}

// loadRegistry reads back what an earlier process of this node has saved in file.
func loadRegistry(node, file string) (*registry, error) {
	r := &registry{node: node, file: file}
	r.reset()
	saved, err := os.Open(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	_, err = r.add(saved)
	return r, err
}

func (r *registry) reset() {
	r.endpoints = map[netip.Addr]endpoint{}
	r.labels = map[uint32][]string{}
}

// register adds or replaces endpoints: JSON objects one after the other, or one array of them. An
// object without an address only gives labels to an identity.
func (r *registry) register(body io.Reader) (any, error) {
	n, err := r.add(body)
	if err != nil {
		return nil, err
	}
	return map[string]int{"registered": n}, r.save()
}

func (r *registry) add(body io.Reader) (int, error) {
	var list []endpoint
	decoder := json.NewDecoder(body)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, err
		}
		one := []endpoint{{}}
		var into any = &one[0]
		if raw[0] == '[' {
			into = &one
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return 0, err
		}
		list = append(list, one...)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range list {
		if e.Identity == 0 {
			return 0, fmt.Errorf("endpoint %q has no identity", e.IP)
		}
		if e.Node != "" && e.Node != r.node {
			e.ID = 0
		}
		if e.Labels != nil {
			r.labels[e.Identity] = e.Labels
		}
		if e.IP == "" {
			continue
		}
		ip, err := netip.ParseAddr(e.IP)
		if err != nil {
			return 0, err
		}
		r.endpoints[ip] = e
	}
	return len(list), nil
}

func (r *registry) clear() (any, error) {
	r.mu.Lock()
	n := len(r.endpoints)
	r.reset()
	r.mu.Unlock()
	return map[string]int{"removed": n}, r.save()
}

func (r *registry) list() []endpoint {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := []endpoint{}
	for _, e := range r.endpoints {
		e.Labels = r.labels[e.Identity]
		out = append(out, e)
	}
	return out
}

func (r *registry) save() error {
	if r.file == "" {
		return nil
	}
	list := r.list()
	r.mu.RLock()
	for id, labels := range r.labels {
		list = append(list, endpoint{Identity: id, Labels: labels})
	}
	r.mu.RUnlock()
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(r.file, text, 0o600)
}

// get returns the endpoint of an address with the labels of its identity. As in a cluster, what is
// not known belongs to the world.
func (r *registry) get(ip netip.Addr) (endpoint, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.endpoints[ip]
	if !ok {
		e.Identity = uint32(identity.ReservedIdentityWorld)
	}
	e.Labels = r.labels[e.Identity]
	return e, ok
}

// byIP implements the endpoint manager's look-up; only endpoints of this node are known there.
func (r *registry) byIP(ip netip.Addr) (getters.EndpointInfo, bool) {
	e, ok := r.get(ip)
	if !ok || e.ID == 0 {
		return nil, false
	}
	return e.info(), true
}

func (r *registry) byID(id uint16) (getters.EndpointInfo, bool) {
	for _, e := range r.list() {
		if e.ID == id && id != 0 {
			return e.info(), true
		}
	}
	return nil, false
}

// identity implements the identity allocator's look-up.
func (r *registry) identity(id uint32) (*identity.Identity, error) {
	r.mu.RLock()
	list, ok := r.labels[id]
	r.mu.RUnlock()
	number := identity.NumericIdentity(id)
	if ok {
		return identity.NewIdentity(number, labels.NewLabelsFromModel(list)), nil
	}
	if reserved := identity.LookupReservedIdentity(number); reserved != nil {
		return reserved, nil
	}
	return nil, fmt.Errorf("identity %d is not registered", id)
}

// identityOf implements the ipcache's look-up.
func (r *registry) identityOf(ip netip.Addr) (ipcache.Identity, bool) {
	e, _ := r.get(ip)
	return ipcache.Identity{ID: identity.NumericIdentity(e.Identity)}, true
}

func (r *registry) metadata(ip netip.Addr) *ipcache.K8sMetadata {
	e, ok := r.get(ip)
	if !ok || e.Pod == "" {
		return nil
	}
	return &ipcache.K8sMetadata{Namespace: e.Namespace, PodName: e.Pod}
}

func (r *registry) names(_ uint32, ip netip.Addr) []string {
	e, _ := r.get(ip)
	return e.Names
}

func (r *registry) service(ip netip.Addr, _ uint16) *flowpb.Service {
	e, _ := r.get(ip)
	if e.Service == nil {
		return nil
	}
	return &flowpb.Service{Name: e.Service.Name, Namespace: e.Service.Namespace}
}

func (e endpoint) info() *testutils.FakeEndpointInfo {
	return &testutils.FakeEndpointInfo{
		ID:           uint64(e.ID),
		Identity:     identity.NumericIdentity(e.Identity),
		PodName:      e.Pod,
		PodNamespace: e.Namespace,
		Labels:       e.Labels,
		Pod:          e.pod(),
	}
}

// pod is as much of the Kubernetes object as Cilium's workload detection looks at.
func (e endpoint) pod() *slim_corev1.Pod {
	if e.Workload == nil {
		return nil
	}
	controller := true
	kind, name, hash := e.Workload.Kind, e.Workload.Name, map[string]string{}
	switch kind {
	case "Deployment":
		kind, name, hash = "ReplicaSet", name+"-7c9d", map[string]string{"pod-template-hash": "7c9d"}
	case "CronJob":
		kind, name = "Job", name+"-29000000"
	}
	return &slim_corev1.Pod{ObjectMeta: slim_metav1.ObjectMeta{
		Name: e.Pod, Namespace: e.Namespace, GenerateName: name + "-", Labels: hash,
		OwnerReferences: []slim_metav1.OwnerReference{{Kind: kind, Name: name, Controller: &controller}},
	}}
}

// Package kube makes the API server of a testbed into the cluster that cpg expects: Cilium's
// definitions and objects as Helm installs them, the roles of deploy/rbac, and users. It also
// changes the cluster on request of the control channel.
package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"cpg.test/testbed/internal/pki"
)

// Config is what a cluster is made from.
type Config struct {
	// Dir takes certificates, kubeconfigs and the audit log.
	Dir string
	// RBAC is the directory deploy/rbac of the project.
	RBAC string
	// APIServer, Proxy, Kubelet and Relay are addresses with ports.
	APIServer, Proxy, Kubelet, Relay string
	// TLS says whether the relay asks for TLS; RelayCert is then its certificate and CA that of it.
	TLS       bool
	RelayCert pki.Pair
	CA        string
	// Cut ends the port-forwards to a pod (namespace/name).
	Cut func(ctx context.Context, pod string) error
}

// Access is what the line of "up" says about the cluster.
type Access struct {
	Admin     string          `json:"kubeconfig,omitempty"`
	Token     string          `json:"kubeconfig_token,omitempty"`
	BadToken  string          `json:"kubeconfig_bad_token,omitempty"`
	Proxy     string          `json:"kubeconfig_proxy,omitempty"`
	APIServer string          `json:"apiserver,omitempty"`
	APIProxy  string          `json:"apiproxy,omitempty"`
	AuditLog  string          `json:"audit_log,omitempty"`
	Roles     map[string]Role `json:"roles,omitempty"`
}

// Cluster is one API server and the supervisor's clients of it.
type Cluster struct {
	// URL and ProxyURL are those of the API server and of the proxy before it.
	URL, ProxyURL string
	Ready         Access
	Files         Files

	config    Config
	dir       string
	authority *pki.Authority
	core      *kubernetes.Clientset
	dynamic   dynamic.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	audit     audit

	// pods is held during a change of the relay's pods; podsMade counts those that there have been.
	pods     sync.Mutex
	podsMade int
	// probes is held during a wait for rights.
	probes     sync.Mutex
	probesMade int
}

// Files are those that the parts are started with.
type Files struct {
	CA                                       string
	APIServer, Proxy, Kubelet, KubeletClient pki.Pair
	ServiceAccounts                          pki.Pair
	KubeletConfig, Tokens, AuditPolicy       string
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  users: [` + supervisor + ", " + kubeletUser + `, "` + serverUser + `"]
- level: Metadata
`

// New writes all files that parts and users need. Nothing runs yet.
func New(config Config) (*Cluster, error) {
	if _, err := config.roles(); err != nil { // before anything starts
		return nil, err
	}
	c := &Cluster{
		URL: "https://" + config.APIServer, ProxyURL: "https://" + config.Proxy,
		config: config, dir: filepath.Join(config.Dir, "kube"),
	}
	var err error
	if c.authority, err = pki.New(filepath.Join(c.dir, "pki"), "testbed Kubernetes CA"); err != nil {
		return nil, err
	}
	c.Files.CA = c.authority.CertFile
	for _, s := range []struct {
		pair    *pki.Pair
		file    string
		address string
		subject pki.Subject
	}{
		{&c.Files.APIServer, "apiserver", config.APIServer, pki.Subject{Name: "kube-apiserver"}},
		{&c.Files.Proxy, "apiproxy", config.Proxy, pki.Subject{Name: "apiproxy"}},
		{&c.Files.Kubelet, "kubelet", config.Kubelet, pki.Subject{Name: "system:node:" + nodeName}},
		{&c.Files.KubeletClient, "kubelet-client", "", pki.Subject{Name: "kube-apiserver-kubelet-client"}},
		{&c.Files.ServiceAccounts, "service-accounts", "", pki.Subject{Name: "service-accounts"}},
	} {
		if s.address != "" {
			host, _, err := net.SplitHostPort(s.address)
			if err != nil {
				return nil, err
			}
			s.subject.IPs = []net.IP{net.ParseIP(host)}
		}
		if *s.pair, err = c.authority.IssueFor(s.file, s.subject); err != nil {
			return nil, err
		}
	}
	if c.Files.KubeletConfig, err = c.certificate(kubeletUser, []string{masters}, false); err != nil {
		return nil, err
	}
	c.Files.Tokens = filepath.Join(c.dir, "tokens.csv")
	if err := os.WriteFile(c.Files.Tokens, []byte(adminToken+`,token-admin,token-admin,"`+masters+"\"\n"), 0o600); err != nil {
		return nil, err
	}
	c.Files.AuditPolicy = filepath.Join(c.dir, "audit-policy.yaml")
	if err := os.WriteFile(c.Files.AuditPolicy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	c.Ready.APIServer, c.Ready.APIProxy = c.URL, c.ProxyURL
	c.Ready.AuditLog = filepath.Join(c.dir, "audit.log")
	c.audit.path = c.Ready.AuditLog
	if err := os.Remove(c.audit.path); err != nil && !os.IsNotExist(err) { // of an earlier testbed in this directory
		return nil, err
	}
	if err := c.admins(); err != nil {
		return nil, err
	}
	return c, c.connect()
}

// connect makes the supervisor's clients; they ask nothing yet.
func (c *Cluster) connect() error {
	path, err := c.certificate(supervisor, []string{masters}, false)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit
	config.WarningHandler = rest.NoWarnings{}
	config.Timeout = 30 * time.Second
	if c.core, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.core.Discovery()))
	c.dynamic, err = dynamic.NewForConfig(config)
	return err
}

// Serving asks the API server whether it is ready.
func (c *Cluster) Serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := c.core.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// Fill creates everything in a cluster that has just become ready.
func (c *Cluster) Fill(ctx context.Context) error {
	definitions, err := definitions()
	if err != nil {
		return err
	}
	objects, err := c.objects()
	if err != nil {
		return err
	}
	roles, err := c.config.roles()
	if err != nil {
		return err
	}
	for _, text := range [][]byte{definitions, objects, roles} {
		results, err := c.Apply(ctx, text, Options{})
		if err != nil {
			return err
		}
		for _, r := range results {
			if !r.OK {
				return fmt.Errorf("%s %s: %s", r.Kind, r.Name, r.Error)
			}
		}
	}
	if _, err := c.RelayPod(ctx, "ready", false); err != nil {
		return err
	}
	if err := c.roles(ctx); err != nil {
		return err
	}
	return c.until(ctx, func() error { return c.established(ctx) })
}

// until asks until there is no error, for at most half a minute.
func (c *Cluster) until(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// roles are the files of deploy/rbac as one text.
func (config Config) roles() ([]byte, error) {
	var texts [][]byte
	for _, name := range []string{"workstation.yaml", "in-cluster.yaml", "cluster-dedup.yaml"} {
		text, err := os.ReadFile(filepath.Join(config.RBAC, name))
		if err != nil {
			return nil, fmt.Errorf("-rbac must name the directory deploy/rbac of the project: %w", err)
		}
		texts = append(texts, text)
	}
	return bytes.Join(texts, []byte("\n---\n")), nil
}

package up

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"cpg.test/testbed/internal/kube"
)

// Last numbers of the addresses of the Kubernetes parts, and their ports.
const (
	etcdHost      = 5
	apiserverHost = 6
	apiproxyHost  = 7
	kubeletHost   = 8

	etcdPort     = 2379
	etcdPeerPort = 2380
	apiPort      = 6443
	kubeletPort  = 10250
)

// kubeSettings are the flags that only count with -kube.
type kubeSettings struct {
	on            bool
	program, rbac string
}

// newCluster makes the files of the Kubernetes parts.
func newCluster(network, dir string, s kubeSettings, security *security) (*kube.Cluster, error) {
	at := func(host, port int) string { return fmt.Sprintf("%s.%d:%d", network, host, port) }
	rbac, err := findRBAC(s.rbac)
	if err != nil {
		return nil, err
	}
	control := "http://" + at(kubeletHost, controlPort)
	return kube.New(kube.Config{
		Dir: dir, RBAC: rbac,
		APIServer: at(apiserverHost, apiPort), Proxy: at(apiproxyHost, apiPort),
		Kubelet: at(kubeletHost, kubeletPort), Relay: at(relayHost, relayPort),
		TLS: security.mode != "off", RelayCert: security.relay, CA: security.ca,
		Cut: func(ctx context.Context, pod string) error {
			return post(ctx, control+"/cut?pod="+url.QueryEscape(pod))
		},
	})
}

// kubePlan lists the Kubernetes parts, etcd first.
func kubePlan(network, dir string, s kubeSettings, c *kube.Cluster) ([]spec, error) {
	at := func(host, port int) string { return fmt.Sprintf("%s.%d:%d", network, host, port) }
	program, err := findProgram(s.program)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "kube", "etcd")
	if err := os.RemoveAll(data); err != nil { // of an earlier testbed in this directory
		return nil, err
	}

	etcd := spec{name: "etcd", program: program, listen: at(etcdHost, etcdPort)}
	etcd.args = []string{"etcd", "-dir", data, "-listen", etcd.listen, "-peer", at(etcdHost, etcdPeerPort)}

	kubelet := spec{
		name: "kubelet", program: program, listen: at(kubeletHost, kubeletPort), control: at(kubeletHost, controlPort),
	}
	kubelet.args = []string{
		"kubelet", "-listen", kubelet.listen, "-control", kubelet.control, "-cert", c.Files.Kubelet.Cert,
		"-key", c.Files.Kubelet.Key, "-ca", c.Files.CA, "-kubeconfig", c.Files.KubeletConfig,
	}

	proxy := spec{name: "apiproxy", listen: at(apiproxyHost, apiPort), control: at(apiproxyHost, controlPort)}
	proxy.args = []string{
		"apiproxy", "-listen", proxy.listen, "-control", proxy.control, "-cert", c.Files.Proxy.Cert,
		"-key", c.Files.Proxy.Key, "-upstream", c.URL, "-ca", c.Files.CA,
	}

	apiserver := spec{name: "apiserver", program: program, listen: at(apiserverHost, apiPort), ready: c.Serving}
	address := fmt.Sprintf("%s.%d", network, apiserverHost)
	apiserver.args = []string{
		"apiserver",
		"--etcd-servers=http://" + etcd.listen,
		"--bind-address=" + address, "--advertise-address=" + address, fmt.Sprintf("--secure-port=%d", apiPort),
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + filepath.Join(dir, "kube", "apiserver"),
		"--tls-cert-file=" + c.Files.APIServer.Cert, "--tls-private-key-file=" + c.Files.APIServer.Key,
		"--client-ca-file=" + c.Files.CA, "--token-auth-file=" + c.Files.Tokens,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.Files.ServiceAccounts.Cert,
		"--service-account-signing-key-file=" + c.Files.ServiceAccounts.Key,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC",
		// There is no controller that would give pods their service accounts.
		"--disable-admission-plugins=ServiceAccount",
		"--kubelet-certificate-authority=" + c.Files.CA,
		"--kubelet-client-certificate=" + c.Files.KubeletClient.Cert, "--kubelet-client-key=" + c.Files.KubeletClient.Key,
		"--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file=" + c.Files.AuditPolicy, "--audit-log-path=" + c.Ready.AuditLog,
	}
	return []spec{etcd, kubelet, proxy, apiserver}, nil
}

// startKube starts the Kubernetes parts, etcd first and the others at once, and fills the cluster.
func startKube(ctx context.Context, t *table, specs []spec, c *kube.Cluster) error {
	if err := t.start(ctx, specs[0].name); err != nil {
		return err
	}
	var group errgroup.Group
	for _, spec := range specs[1:] {
		group.Go(func() error { return t.start(ctx, spec.name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.Fill(ctx); err != nil {
		return fmt.Errorf("filling the cluster: %w", err)
	}
	return nil
}

// findProgram returns the program of the module kube/, by default testbed-kube beside this one.
func findProgram(given string) (string, error) {
	if given == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		given = filepath.Join(filepath.Dir(self), "testbed-kube")
	}
	path, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("-kube needs the program that is built in tests/testbed/kube: %w", err)
	}
	return path, nil
}

// findRBAC returns the directory of the roles: the given one, or deploy/rbac of the project that
// the working directory or this program lies in.
func findRBAC(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if self, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(self))
	}
	for _, dir := range starts {
		for {
			path := filepath.Join(dir, "deploy", "rbac")
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				return path, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
			dir = filepath.Dir(dir)
		}
	}
	return "", errors.New("-kube needs -rbac, the directory deploy/rbac of the project")
}

func post(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

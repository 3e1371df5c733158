package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"cpg.test/testbed/internal/pki"
)

// Users of the API server that are not under test; the audit log leaves them out.
const (
	supervisor  = "testbed"
	kubeletUser = "testbed-kubelet"
	serverUser  = "system:apiserver"
)

const (
	adminToken = "testbed-admin-token"
	// masters may do everything.
	masters = "system:masters"
	// lifetime of a service account's token, in seconds.
	lifetime = 24 * 3600
)

// Role is a user that the files of deploy/rbac give rights to, or none.
type Role struct {
	Kubeconfig string `json:"kubeconfig"`
	// User is the name in the audit log.
	User string `json:"user"`
}

// groupsOf are the users that log in with a certificate: one for each role, the two combinations
// that cpg's users have, and one without rights. The groups are those that the files bind.
var groupsOf = map[string][]string{
	"workstation":               {"cpg-workstation"},
	"cluster-dedup":             {"cpg-cluster-dedup"},
	"workstation-cluster-dedup": {"cpg-workstation", "cpg-cluster-dedup"},
	"none":                      nil,
}

// accountsOf are the roles whose user is a service account, which logs in with a token.
var accountsOf = map[string]string{
	"in-cluster": "cpg-in-cluster",
}

// kubeconfig writes a kubeconfig that needs no other file.
func (c *Cluster) kubeconfig(name, server string, user *clientcmdapi.AuthInfo) (string, error) {
	ca, err := os.ReadFile(c.authority.CertFile)
	if err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["testbed"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[name] = user
	config.Contexts["testbed"] = &clientcmdapi.Context{Cluster: "testbed", AuthInfo: name, Namespace: "default"}
	config.CurrentContext = "testbed"
	path := filepath.Join(c.dir, name+".kubeconfig")
	return path, clientcmd.WriteToFile(*config, path)
}

// certificate makes a user who logs in with a client certificate.
func (c *Cluster) certificate(name string, groups []string, expired bool) (string, error) {
	pair, err := c.authority.IssueFor("user-"+name, pki.Subject{Name: name, Groups: groups, Expired: expired})
	if err != nil {
		return "", err
	}
	cert, err := os.ReadFile(pair.Cert)
	if err != nil {
		return "", err
	}
	key, err := os.ReadFile(pair.Key)
	if err != nil {
		return "", err
	}
	return c.kubeconfig(name, c.URL, &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

// User makes a further user, whom nothing is granted but what is bound to name or groups.
func (c *Cluster) User(name string, groups []string, expired bool) (Role, error) {
	taken := slices.Contains([]string{"admin", "token", "bad-token", "proxy", supervisor, kubeletUser}, name)
	if _, role := c.Ready.Roles[name]; role || taken || !userName.MatchString(name) {
		return Role{}, fmt.Errorf("%q is taken or no name for a user", name)
	}
	path, err := c.certificate(name, groups, expired)
	return Role{Kubeconfig: path, User: name}, err
}

// admins writes the kubeconfigs that need no API server.
func (c *Cluster) admins() error {
	for _, a := range []struct {
		path               *string
		name, server, user string
	}{
		{path: &c.Ready.Token, name: "token", server: c.URL, user: adminToken},
		{path: &c.Ready.BadToken, name: "bad-token", server: c.URL, user: "expired"},
		{path: &c.Ready.Proxy, name: "proxy", server: c.ProxyURL, user: adminToken},
	} {
		var err error
		if *a.path, err = c.kubeconfig(a.name, a.server, &clientcmdapi.AuthInfo{Token: a.user}); err != nil {
			return err
		}
	}
	var err error
	c.Ready.Admin, err = c.certificate("admin", []string{masters}, false)
	return err
}

// roles makes the users that the files of deploy/rbac bind.
func (c *Cluster) roles(ctx context.Context) error {
	c.Ready.Roles = map[string]Role{}
	for name, groups := range groupsOf {
		path, err := c.certificate(name, groups, false)
		if err != nil {
			return err
		}
		c.Ready.Roles[name] = Role{Kubeconfig: path, User: name}
	}
	for name, account := range accountsOf {
		seconds := int64(lifetime)
		token, err := c.core.CoreV1().ServiceAccounts(ciliumNamespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("token of %s: %w", account, err)
		}
		path, err := c.kubeconfig(name, c.URL, &clientcmdapi.AuthInfo{Token: token.Status.Token})
		if err != nil {
			return err
		}
		c.Ready.Roles[name] = Role{Kubeconfig: path, User: "system:serviceaccount:" + ciliumNamespace + ":" + account}
	}
	return nil
}

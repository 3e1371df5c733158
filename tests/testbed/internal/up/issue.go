package up

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"sync"

	"cpg.test/testbed/internal/pki"
)

// issuer makes further client certificates for the relay, also useless ones.
type issuer struct {
	dir string

	mu     sync.Mutex
	own    *pki.Authority
	others *pki.Authority
}

var fileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// issue answers with a certificate of the relay's CA, or of one that nobody trusts (ca=other).
func (i *issuer) issue(r *http.Request) (any, error) {
	q := r.URL.Query()
	name := q.Get("name")
	if !fileName.MatchString(name) {
		return nil, fmt.Errorf("name=%q has other characters than a-z, 0-9 and -", name)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.own == nil {
		return nil, errors.New("the relay has no TLS: start with -tls")
	}
	authority := i.own
	if q.Get("ca") == "other" {
		if i.others == nil {
			var err error
			if i.others, err = pki.New(filepath.Join(i.dir, "tls-other"), "another CA"); err != nil {
				return nil, err
			}
		}
		authority = i.others
	}
	pair, err := authority.IssueFor("client-"+name, pki.Subject{
		Name: name, DNS: []string{name + ".hubble-relay.cilium.io"}, Expired: q.Get("expired") == "1",
	})
	return map[string]string{"ca": authority.CertFile, "cert": pair.Cert, "key": pair.Key}, err
}

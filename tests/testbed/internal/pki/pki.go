// Package pki makes the certificates of a testbed: a CA, and the leaf certificates with the names
// that Cilium's Helm chart or Kubernetes expects in them.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// RelayServerName is the name that clients check the relay's certificate with. The certificate is
// for the wildcard above it and for no address, as in a cluster.
const RelayServerName = "instance.hubble-relay.cilium.io"

// Pair is a certificate and its key, as files.
type Pair struct {
	Cert, Key string
}

// Authority is a CA whose files all lie in one directory.
type Authority struct {
	// CertFile is the CA's certificate.
	CertFile string

	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial atomic.Int64
}

// New makes a CA of that name in dir.
func New(dir, name string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{CertFile: filepath.Join(dir, "ca.crt"), dir: dir, key: key}
	template := a.template(name)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return a, writePEM(a.CertFile, "CERTIFICATE", der)
}

// Subject is what a certificate is for.
type Subject struct {
	// Name is the common name; the API server takes it as the user and Groups as the user's groups.
	Name   string
	Groups []string
	// DNS and IPs are what a server is reached by.
	DNS []string
	IPs []net.IP
	// Expired makes a certificate that was valid until a minute ago.
	Expired bool
}

// Issue makes a certificate for both ends of a connection. Files are called <file>.crt and .key.
func (a *Authority) Issue(file string, names ...string) (Pair, error) {
	return a.IssueFor(file, Subject{Name: names[0], DNS: names})
}

// IssueFor makes a certificate as Issue does, with all that a subject can have.
func (a *Authority) IssueFor(file string, s Subject) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template := a.template(s.Name)
	template.Subject.Organization = s.Groups
	template.DNSNames, template.IPAddresses = s.DNS, s.IPs
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if s.Expired {
		template.NotAfter = time.Now().Add(-time.Minute)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{Cert: filepath.Join(a.dir, file+".crt"), Key: filepath.Join(a.dir, file+".key")}
	if err := writePEM(pair.Cert, "CERTIFICATE", der); err != nil {
		return Pair{}, err
	}
	return pair, writePEM(pair.Key, "PRIVATE KEY", keyDER)
}

func (a *Authority) template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial.Add(1)),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(7 * 24 * time.Hour),
	}
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	return nil
}

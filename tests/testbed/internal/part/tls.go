package part

import (
	"flag"
	"log/slog"

	"github.com/cilium/cilium/pkg/crypto/certloader"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
)

// TLS names the files of a gRPC server inside the cluster. Empty means plain text. With a CA the
// server demands client certificates, as an agent does from the relay.
type TLS struct {
	Cert, Key, CA string
}

// Register adds the three flags.
func (t *TLS) Register(flags *flag.FlagSet) {
	flags.StringVar(&t.Cert, "cert", "", "server certificate (PEM); empty = plain text")
	flags.StringVar(&t.Key, "key", "", "key of the certificate (PEM)")
	flags.StringVar(&t.CA, "ca", "", "CA that client certificates are checked with; empty = none is asked for")
}

// Option is the matching option of Hubble's server, which reloads the files when they change.
func (t *TLS) Option(log *slog.Logger) (serveroption.Option, error) {
	if t.Cert == "" {
		return serveroption.WithInsecure(), nil
	}
	var cas []string
	if t.CA != "" {
		cas = []string{t.CA}
	}
	config, err := certloader.NewWatchedServerConfig(log, cas, t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	return serveroption.WithServerTLS(config), nil
}

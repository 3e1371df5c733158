// Package etcd is the real etcd, embedded: one member, plain text, nothing forced to disk.
package etcd

import (
	"context"
	"errors"
	"flag"
	"net/url"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// Main runs etcd until SIGTERM.
func Main(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("dir", "", "directory of the data; kept over a restart")
	listen := flags.String("listen", "", "address for clients")
	peer := flags.String("peer", "", "address for other members, of which there are none")
	_ = flags.Parse(args)

	config := embed.NewConfig()
	config.Dir = *dir
	config.LogLevel = "warn"
	// A killed process loses nothing that it has written, and machines do not fail here.
	config.UnsafeNoFsync = true
	clients := []url.URL{{Scheme: "http", Host: *listen}}
	peers := []url.URL{{Scheme: "http", Host: *peer}}
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.InitialClusterFromName(config.Name)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return err
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	}
}
